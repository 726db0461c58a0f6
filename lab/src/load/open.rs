//! Open loop: requests are due at set times, whatever the responses. Measures response times at a rate, and whether
//! the server keeps the rate.

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

/// The parameters of an open loop.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// Requests per second, evenly spaced; at least 1.
    pub per_second: u32,
    /// The number of connections, each with at most one request in flight. A request that is due while all are busy
    /// waits for one, and its response time includes the wait.
    pub connections: usize,
    /// The time before requests are counted.
    pub warm_up: Duration,
    /// The time for which due requests are counted.
    pub duration: Duration,
    /// How long after the end late requests may still be sent. The remaining ones count as not sent in time.
    pub late_max: Duration,
}

/// The results of an open loop.
#[derive(Clone, Debug)]
pub struct OpenRun {
    /// The responses, with times counted from when their requests were due.
    pub answers: Recorder,
    /// How late each request was handed to a connection. The cause is the generator itself, or a server whose
    /// responses kept all connections busy.
    pub lateness: Recorder,
    /// The time from the first counted request to the last response to a counted request.
    pub elapsed: Duration,
}

impl OpenRun {
    /// A summary of the responses.
    pub fn summary(&self) -> Summary {
        self.answers.summary(self.elapsed)
    }
}

impl OpenLoop {
    /// The time from the start at which the request with this number is due.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(self.per_second.max(1)))
    }
}

/// Puts load on `target`. `step` is called for each request with a connection, the connection's number, and the
/// number of the request. It sends a request and returns the connection with the response to count. The rate is that
/// of the responses, until the last of them.
///
/// # Errors A connection cannot be opened at the start. A request that fails later is counted, and its connection is
/// opened again.
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
    // The runtime's timers are late by up to a millisecond, a sleeping thread much less.
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

/// The results of one connection, or of all of them.
#[derive(Default)]
struct Served {
    answers: Recorder,
    lateness: Recorder,
    /// The time from the start to the last response to a counted request.
    last: Duration,
}

/// The schedule: how many requests are due, and the number of the next one.
struct Arrivals {
    load: OpenLoop,
    started: Instant,
    next: AtomicU64,
    /// A permit for each request that is due and not yet taken. At the end, each connection gets one more and finds
    /// no request.
    due: Semaphore,
}

impl Arrivals {
    /// Waits until a request is due, and takes it; `None` after the last.
    async fn take(&self) -> Option<(u64, Duration)> {
        // The semaphore is never closed.
        self.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.load.due(number);
        (due < self.end()).then_some((number, due))
    }

    fn end(&self) -> Duration {
        self.load.warm_up + self.load.duration
    }
}

/// Releases requests when they are due, until the last one, or until no connection waits for them any more.
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

/// Sends the requests of one connection.
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

    /// Starts a server that responds to each request after this time.
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
    async fn every_request_is_sent_once_and_the_wait_for_a_connection_counts() {
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
        // One connection gets 20 responses a second: the request that is due at the end of half a second waits for
        // two.
        assert_eq!(sent.load(Ordering::Relaxed), 50);
        assert_eq!((summary.answers, summary.counts["200"]), (40, 40));
        assert!(summary.max_ms > 1_900.0, "{summary:?}");
        assert!(summary.requests_per_second < 20.0, "{summary:?}");
    }

    #[tokio::test]
    async fn requests_that_are_too_late_are_not_sent_and_count_as_failed() {
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
        // Of 40 due requests, at most one can be sent every tenth of a second, until half a second has passed.
        let (sent, late) = (run.answers.count_of("200"), run.answers.count_of("not sent in time"));
        assert_eq!(sent + late, 40, "{:?}", run.answers);
        assert!((1..=6).contains(&sent), "{:?}", run.answers);
        // The lateness of the sent requests is recorded.
        assert!(sent == 1 || run.lateness.quantile_ms(1.0) > 80.0, "{:?}", run.lateness);
    }
}
