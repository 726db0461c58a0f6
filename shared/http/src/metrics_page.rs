//! The page of metrics, rendered once for all that ask for it at the same time.
//!
//! Rendering takes the longer the more series there are, and anyone may request the page as often as they like. So one
//! rendering is in flight at a time, and a page serves for ten times as long as it took to make: rendering takes a
//! tenth of one processor at most, and a single scrape always gets a fresh page.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::Mutex;

/// How often the time of its making a page serves.
const SERVES_TIMES: u32 = 10;
/// The longest time that a page serves.
const SERVES_MAX: Duration = Duration::from_secs(1);

/// The last page.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage(Mutex<Option<Rendered>>);

#[derive(Debug)]
struct Rendered {
    page: Bytes,
    until: Instant,
}

impl MetricsPage {
    /// Returns the last page, or if it is too old, the one that `render` makes. Cancel-safe: if the caller that renders
    /// goes away, the next one renders.
    pub(crate) async fn get(&self, render: impl Future<Output = Bytes>) -> Bytes {
        let mut last = self.0.lock().await;
        if let Some(rendered) = &*last
            && Instant::now() < rendered.until
        {
            return rendered.page.clone();
        }
        let began = Instant::now();
        let page = render.await;
        let serves_for = (began.elapsed() * SERVES_TIMES).min(SERVES_MAX);
        *last = Some(Rendered { page: page.clone(), until: Instant::now() + serves_for });
        page
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn those_that_ask_at_the_same_time_share_one_page() {
        let (page, renderings) = (Arc::new(MetricsPage::default()), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for _ in 0..100 {
            let (page, renderings) = (page.clone(), renderings.clone());
            callers.push(tokio::spawn(async move {
                let render = async {
                    let number = renderings.fetch_add(1, Ordering::SeqCst);
                    // As long as a page that serves for a second.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Bytes::from(number.to_string())
                };
                page.get(render).await
            }));
        }
        for caller in callers {
            assert_eq!(caller.await.unwrap(), "0");
        }
        assert_eq!(renderings.load(Ordering::SeqCst), 1);
    }
}
