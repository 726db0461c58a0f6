//! One Redis node, asked through a circuit breaker.
//!
//! The breaker is the connection: while there is one that works, calls go over it, each for as long as the time-out at most.
//! When it breaks, or several calls in a row were not answered in time, there is none, and calls end at once without an
//! answer. A while later the first of them has a task of its own look whether Redis is back (half-open): no call waits for
//! that, nor for a connection.
//!
//! Never: an error that reaches a customer, a password in a log.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::timeout;

use crate::telemetry::{self, RedisCall, RedisResult as Counted};

/// Calls in a row that were not answered in time, after which no more are made.
const TIMEOUTS_MAX: u32 = 3;
/// For how long no calls are made then.
const OPEN_FOR: Duration = Duration::from_secs(1);
/// How long a connection may take: nobody waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A node, shared by all that ask it.
pub(crate) struct Node {
    url: String,
    patience: Duration,
    state: Mutex<State>,
}

enum State {
    /// Calls are made.
    Closed { connection: MultiplexedConnection, number: u64, timeouts: u32 },
    /// None are, and from `until` on somebody looks whether they may be again.
    Open { until: Instant, probing: bool, number: u64 },
}

impl Node {
    /// A node that is waited for so long. It is connected to when it is first asked or looked for.
    pub(crate) fn new(url: &str, patience: Duration) -> Arc<Self> {
        telemetry::note_breaker(true);
        let state = State::Open { until: Instant::now(), probing: false, number: 0 };
        Arc::new(Self { url: url.to_owned(), patience, state: Mutex::new(state) })
    }

    /// What names it to the client.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks; `None` where there is no answer in time, or Redis is not asked at present. Cancel-safe.
    pub(super) async fn ask<T, Answer>(
        self: &Arc<Self>,
        call: RedisCall,
        question: impl FnOnce(MultiplexedConnection) -> Answer,
    ) -> Option<T>
    where
        Answer: Future<Output = RedisResult<T>>,
    {
        let Some((connection, number)) = self.connection() else {
            telemetry::count_redis_call(call, Counted::Skipped, None);
            return None;
        };
        let asked = Instant::now();
        let answer = timeout(self.patience, question(connection)).await;
        let (answer, result) = match answer {
            Ok(Ok(answer)) => (Some(answer), Counted::Ok),
            Ok(Err(error)) => {
                self.failed(number, &error);
                (None, Counted::Failed)
            }
            Err(_) => {
                self.timed_out(number);
                (None, Counted::TimedOut)
            }
        };
        if result == Counted::Ok {
            self.answered(number);
        }
        telemetry::count_redis_call(call, result, Some(asked.elapsed()));
        answer
    }

    /// Has it looked for, so that it is connected before it is needed.
    pub(crate) fn look(self: &Arc<Self>) {
        let _ = self.connection();
    }

    /// The connection, and which it is; none while the breaker is open.
    fn connection(self: &Arc<Self>) -> Option<(MultiplexedConnection, u64)> {
        let mut state = self.state();
        match &mut *state {
            State::Closed { connection, number, .. } => Some((connection.clone(), *number)),
            State::Open { until, probing, .. } => {
                if !*probing && Instant::now() >= *until {
                    *probing = true;
                    tokio::spawn(self.clone().probe());
                }
                None
            }
        }
    }

    /// Connects, and closes the breaker if Redis answers as fast as it has to.
    async fn probe(self: Arc<Self>) {
        let asked = Instant::now();
        let probed = self.connect().await;
        let result = if probed.is_ok() { Counted::Ok } else { Counted::Failed };
        telemetry::count_redis_call(RedisCall::Probe, result, Some(asked.elapsed()));
        let mut state = self.state();
        let State::Open { number, .. } = *state else { return };
        *state = match probed {
            Ok(connection) => {
                tracing::info!("Redis answers");
                telemetry::note_breaker(false);
                State::Closed { connection, number: number + 1, timeouts: 0 }
            }
            Err(reason) => {
                if number == 0 {
                    tracing::warn!(reason, "Redis does not answer; each process goes on by itself");
                }
                State::Open { until: Instant::now() + OPEN_FOR, probing: false, number: number.max(1) }
            }
        };
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let said = |error: RedisError| error.to_string();
        let late = |_| format!("no answer within {} ms", self.patience.as_millis());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Ours is around every call.
            .set_response_timeout(None);
        let client = Client::open(self.url.as_str()).map_err(said)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // It greets the server as well, so the time-out of the connection alone would not do.
        let connection = timeout(CONNECT_TIMEOUT, connecting).await;
        let mut connection = connection.map_err(|_| "no connection".to_owned())?.map_err(said)?;
        let ping = redis::cmd("PING");
        let pong = timeout(self.patience, ping.query_async::<String>(&mut connection)).await;
        pong.map_err(late)?.map_err(said)?;
        Ok(connection)
    }

    fn answered(&self, of: u64) {
        if let State::Closed { number, timeouts, .. } = &mut *self.state()
            && *number == of
        {
            *timeouts = 0;
        }
    }

    fn timed_out(&self, of: u64) {
        let mut state = self.state();
        if let State::Closed { number, timeouts, .. } = &mut *state
            && *number == of
        {
            *timeouts += 1;
            if *timeouts >= TIMEOUTS_MAX {
                let reason = format!("{TIMEOUTS_MAX} calls without an answer within {:?}", self.patience);
                Self::open(&mut state, of, &reason);
            }
        }
    }

    /// Also what a server says of itself (loading, read-only, no memory) is no reason to go on asking it.
    fn failed(&self, of: u64, error: &RedisError) {
        let mut state = self.state();
        if matches!(&*state, State::Closed { number, .. } if *number == of) {
            Self::open(&mut state, of, &error.to_string());
        }
    }

    fn open(state: &mut State, number: u64, reason: &str) {
        tracing::warn!(reason, "Redis is not asked for now; each process goes on by itself");
        telemetry::note_breaker(true);
        *state = State::Open { until: Instant::now() + OPEN_FOR, probing: false, number };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
