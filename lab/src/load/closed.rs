//! Closed loop: a fixed number of connections, each sending its next request after the last response. Measures
//! throughput.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use hyper::body::Bytes;
use tokio::{sync::Barrier, task::JoinSet};

use crate::load::{Answer, Connection, Recorder, Summary, Target, TargetError};

/// The parameters of a closed loop.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// The number of connections, each with one request in flight.
    pub connections: usize,
    /// The time before responses are counted.
    pub warm_up: Duration,
    /// The time for which responses are counted.
    pub duration: Duration,
}

/// Puts load on `target`. `step` is called for each request with a connection, the connection's number, and the
/// number of the request on that connection. It sends a request and returns the connection with the response to
/// count.
///
/// # Errors A connection cannot be opened at the start. A request that fails later is counted, and its connection is
/// opened again.
pub async fn closed_loop<F, Fut>(target: &Target, load: &ClosedLoop, step: F) -> Result<Summary, TargetError>
where
    F: Fn(Connection, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Connection, Result<Answer, TargetError>)> + Send,
{
    let step = Arc::new(step);
    let ready = Arc::new(Barrier::new(load.connections + 1));
    let mut tasks = JoinSet::new();
    for number in 0..load.connections {
        let mut connection = target.connect().await?;
        let (step, ready, target, load) = (step.clone(), ready.clone(), target.clone(), load.clone());
        tasks.spawn(async move {
            ready.wait().await;
            let started = Instant::now();
            let mut recorder = Recorder::new();
            for turn in 0.. {
                let asked = Instant::now();
                if asked - started >= load.warm_up + load.duration {
                    break;
                }
                let (used, answer) = step(connection, number, turn).await;
                connection = used;
                let counted = asked - started >= load.warm_up;
                match answer {
                    Ok(answer) if counted => recorder.answered(answer.status.as_u16(), asked.elapsed()),
                    Ok(_) => {}
                    Err(error) => {
                        recorder.failed(&error.to_string());
                        match target.connect().await {
                            Ok(fresh) => connection = fresh,
                            Err(_) => break,
                        }
                    }
                }
            }
            recorder
        });
    }
    ready.wait().await;
    let mut all = Recorder::new();
    while let Some(recorder) = tasks.join_next().await {
        match recorder {
            Ok(recorder) => all.merge(&recorder),
            Err(_panicked) => all.failed("the load generator panicked"),
        }
    }
    Ok(all.summary(load.duration))
}

impl Connection {
    /// Sends a POST request, and returns the connection with the response, as [`closed_loop`] expects it from a step.
    pub async fn post(
        mut self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> (Self, Result<Answer, TargetError>) {
        let answer = self.send(Method::POST, path, headers, body.into()).await;
        (self, answer)
    }
}
