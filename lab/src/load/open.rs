//! Open loop: requests at set times, whatever the answers. Measures response times at a rate, and whether it is kept.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::load::{Answer, Connection, Recorder, Summary, Target, TargetError};

/// How to load.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// Requests per second, at even distances; at least 1.
    pub per_second: u32,
    /// Connections, each with at most one request under way. A request whose time comes while all are busy waits for one,
    /// and its response time has begun.
    pub connections: usize,
    /// How long to warm up, uncounted.
    pub warm_up: Duration,
    /// For how long requests are due that count.
    pub duration: Duration,
    /// How long after the end requests that are late by then may still be sent; the others count as not sent.
    pub late_max: Duration,
}

/// What an open loop measured.
#[derive(Clone, Debug)]
pub struct OpenRun {
    /// Answers, their times counted from when their requests were due.
    pub answers: Recorder,
    /// How late each request was handed to whoever sends it: the generator's own fault, and a server's whose answers kept
    /// all connections busy.
    pub lateness: Recorder,
    /// From when requests counted until the last answer to one.
    pub elapsed: Duration,
}

impl OpenRun {
    /// Its answers summed up.
    pub fn summary(&self) -> Summary {
        self.answers.summary(self.elapsed)
    }
}

impl OpenLoop {
    /// When the request of this number is due, from the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(self.per_second.max(1)))
    }
}

/// Loads `target`. `step` is called for each request with a connection, the connection's number and the request's; it sends
/// what it wants and returns the answer to count. Requests are counted by when they were due, and their response times from
/// then on; the rate is that of their answers, until the last of them.
///
/// # Errors
/// A connection cannot be opened. Requests that fail later are counted, and end their connection's turn.
pub async fn open_loop<F, Fut>(target: &Target, load: &OpenLoop, step: F) -> Result<OpenRun, TargetError>
where
    F: Fn(Connection, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Connection, Result<Answer, TargetError>)> + Send + 'static,
{
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(target.connect().await?);
    }
    let arrivals = Arc::new(Arrivals {
        load: load.clone(),
        started: Instant::now(),
        next: AtomicU64::new(0),
        due: Semaphore::new(0),
    });
    let ticking = Arc::downgrade(&arrivals);
    // A timer of the runtime is late by up to a millisecond; a thread that sleeps is not.
    thread::spawn(move || tick(&ticking));
    let step = Arc::new(step);
    let mut tasks = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        tasks.spawn(serve(arrivals.clone(), target.clone(), step.clone(), connection, number));
    }
    let mut all = Served::default();
    while let Some(served) = tasks.join_next().await {
        match served {
            Ok(served) => {
                all.answers.merge(&served.answers);
                all.lateness.merge(&served.lateness);
                all.last = all.last.max(served.last);
            }
            Err(_panicked) => all.answers.failed("the load generator panicked"),
        }
    }
    let elapsed = load.duration.max(all.last.saturating_sub(load.warm_up));
    Ok(OpenRun { answers: all.answers, lateness: all.lateness, elapsed })
}

/// What one connection, or all of them, counted.
#[derive(Default)]
struct Served {
    answers: Recorder,
    lateness: Recorder,
    /// When, from the start, the last request that counts was answered.
    last: Duration,
}

/// The requests: how many are due, and which is the next.
struct Arrivals {
    load: OpenLoop,
    started: Instant,
    next: AtomicU64,
    /// A permit for each that is due and not taken; at the end, one more for each connection, which finds nothing.
    due: Semaphore,
}

impl Arrivals {
    /// Waits until a request is due, and takes it; `None` after the last.
    async fn take(&self) -> Option<(u64, Duration)> {
        // Nobody closes it.
        self.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.load.due(number);
        (due < self.end()).then_some((number, due))
    }

    fn end(&self) -> Duration {
        self.load.warm_up + self.load.duration
    }
}

/// Makes requests due, until the last one is or nobody waits for them any more.
fn tick(arrivals: &Weak<Arrivals>) {
    let mut made = 0;
    while let Some(arrivals) = arrivals.upgrade() {
        let now = arrivals.started.elapsed();
        let mut due = 0;
        while arrivals.load.due(made) <= now.min(arrivals.end()) {
            made += 1;
            due += 1;
        }
        arrivals.due.add_permits(due);
        let next = arrivals.load.due(made);
        if next >= arrivals.end() {
            arrivals.due.add_permits(arrivals.load.connections);
            return;
        }
        drop(arrivals);
        thread::sleep(next.saturating_sub(now));
    }
}

/// One connection's part.
async fn serve<F, Fut>(
    arrivals: Arc<Arrivals>,
    target: Target,
    step: Arc<F>,
    mut connection: Connection,
    number: usize,
) -> Served
where
    F: Fn(Connection, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Connection, Result<Answer, TargetError>)> + Send + 'static,
{
    let mut served = Served::default();
    while let Some((request, due)) = arrivals.take().await {
        let counted = due >= arrivals.load.warm_up;
        let taken = arrivals.started.elapsed();
        if taken > arrivals.end() + arrivals.load.late_max {
            served.answers.failed("not sent in time");
            continue;
        }
        if counted {
            served.lateness.answered(0, taken.saturating_sub(due));
        }
        let (used, answer) = step(connection, number, request).await;
        connection = used;
        let answered = arrivals.started.elapsed();
        match answer {
            Ok(answer) if counted => {
                served.answers.answered(answer.status.as_u16(), answered.saturating_sub(due));
                served.last = answered;
            }
            Ok(_) => {}
            Err(error) => {
                served.answers.failed(&error.to_string());
                match target.connect().await {
                    Ok(fresh) => connection = fresh,
                    Err(_) => break,
                }
            }
        }
    }
    served
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers each request after so long.
    async fn slow(takes: Duration) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut asked = [0; 1024];
                    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                        tokio::time::sleep(takes).await;
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Target::new(&url).unwrap()
    }

    #[tokio::test]
    async fn every_request_is_sent_once_and_waiting_for_a_connection_counts() {
        let load = OpenLoop {
            per_second: 100,
            connections: 1,
            warm_up: Duration::from_millis(100),
            duration: Duration::from_millis(400),
            late_max: Duration::from_secs(60),
        };
        let target = slow(Duration::from_millis(50)).await;
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let summary = open_loop(&target, &load, move |connection, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            connection.post("/", &[], "{}")
        })
        .await
        .unwrap()
        .summary();
        // One connection answers 20 a second: what is due at the end of half a second has waited for two.
        assert_eq!(sent.load(Ordering::Relaxed), 50);
        assert_eq!((summary.answers, summary.counts["200"]), (40, 40));
        assert!(summary.max_ms > 1_900.0, "{summary:?}");
        assert!(summary.requests_per_second < 20.0, "{summary:?}");
    }

    #[tokio::test]
    async fn who_is_too_late_is_not_sent_and_counts_as_failed() {
        let load = OpenLoop {
            per_second: 100,
            connections: 1,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(400),
            late_max: Duration::from_millis(100),
        };
        let target = slow(Duration::from_millis(100)).await;
        let run =
            open_loop(&target, &load, |connection, _, _| connection.post("/", &[], "{}")).await.unwrap();
        // Of 40 that are due, at most one can be sent every tenth of a second, until half a second has passed.
        let (sent, late) = (run.answers.count_of("200"), run.answers.count_of("not sent in time"));
        assert_eq!(sent + late, 40, "{:?}", run.answers);
        assert!((1..=6).contains(&sent), "{:?}", run.answers);
        // And it is told how late those were that were sent.
        assert!(sent == 1 || run.lateness.quantile_ms(1.0) > 80.0, "{:?}", run.lateness);
    }
}
