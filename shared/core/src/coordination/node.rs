//! One Redis node, asked through a circuit breaker.
//!
//! The breaker is the connection: while there is one that works, calls go over it, each for as long as the time-out at most.
//! When it breaks, or calls wait for it too often or too long, there is none, and calls end at once without an answer; a task looks every
//! second whether Redis is back (half-open), whether or not somebody calls. No call waits for that, nor for a connection.
//!
//! Never: an error that reaches a customer, a password in a log.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{sleep, timeout};

use crate::{
    redis_client,
    telemetry::{self, RedisCall, RedisResult as Counted},
};

/// No more calls are made where more than this share of the last ones was not answered in time: some three in a row, or every
/// other one.
const TIMEOUTS_MAX: f64 = 0.3;
/// About how many calls that is a share of, the last ones most.
const SHARE_OF: f64 = 8.0;
/// Nor where each of so many calls, the quickest too, took longer than this part of the time-out. The quickest, because a process
/// that has too much to do finds most answers late whose Redis is as quick as ever.
const WINDOW: u32 = 32;
const SLOW: f64 = 0.5;
/// For how long no calls are made then, before somebody looks again.
const OPEN_FOR: Duration = Duration::from_secs(1);
/// How often it is asked then before it counts as slow.
const PINGS: u32 = 4;
/// How long a connection may take: nobody waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A node, shared by all that ask it.
pub(crate) struct RedisNode {
    url: String,
    patience: Duration,
    state: Mutex<State>,
}

enum State {
    /// Calls are made.
    Closed { connection: MultiplexedConnection, number: u64, seen: Seen },
    /// None are, and a task looks whether they may be again.
    Open { number: u64, looking: bool },
}

/// How the last calls went.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The share that was not answered in time, 0 to 1.
    timeouts: f64,
    /// Calls of the present window, and how long the quickest of them took.
    calls: u32,
    quickest: Option<Duration>,
}

impl Seen {
    /// Notes a call and how long it took, `None` where it was not answered in time; says why no more should be made, if so.
    fn note(&mut self, took: Option<Duration>, patience: Duration) -> Option<String> {
        self.timeouts += (f64::from(u8::from(took.is_none())) - self.timeouts) / SHARE_OF;
        if self.timeouts > TIMEOUTS_MAX {
            return Some(format!("too many calls without an answer within {patience:?}"));
        }
        let took = took.unwrap_or(patience);
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        (self.quickest, self.calls) = (Some(quickest), self.calls + 1);
        if self.calls < WINDOW {
            return None;
        }
        (self.quickest, self.calls) = (None, 0);
        (quickest > patience.mul_f64(SLOW))
            .then(|| format!("each of {WINDOW} calls took {quickest:.1?} or longer"))
    }
}

impl RedisNode {
    /// A node that is waited for so long. It is connected to when it is first asked or looked for.
    pub(crate) fn new(url: &str, patience: Duration) -> Arc<Self> {
        telemetry::set_breaker(true);
        let state = State::Open { number: 0, looking: false };
        Arc::new(Self { url: url.to_owned(), patience, state: Mutex::new(state) })
    }

    /// What names it to the client.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How long it is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.patience
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
        let took = asked.elapsed();
        let (answer, result) = match answer {
            Ok(Ok(answer)) => (Some(answer), Counted::Ok),
            Ok(Err(error)) => {
                self.failed(number, &error);
                (None, Counted::Failed)
            }
            Err(_) => (None, Counted::TimedOut),
        };
        self.note(number, (result != Counted::TimedOut).then_some(took));
        telemetry::count_redis_call(call, result, Some(took));
        answer
    }

    /// Has it looked for, so that it is connected before it is needed.
    pub(crate) fn look(self: &Arc<Self>) {
        self.look_after(Duration::ZERO, &mut self.state());
    }

    /// The connection, and which it is; none while the breaker is open.
    fn connection(self: &Arc<Self>) -> Option<(MultiplexedConnection, u64)> {
        let mut state = self.state();
        if let State::Closed { connection, number, .. } = &*state {
            return Some((connection.clone(), *number));
        }
        self.look_after(Duration::ZERO, &mut state);
        None
    }

    /// Has a task look for it, unless one does.
    fn look_after(self: &Arc<Self>, pause: Duration, state: &mut State) {
        if let State::Open { looking, .. } = state
            && !*looking
        {
            *looking = true;
            tokio::spawn(Self::look_until_it_answers(Arc::downgrade(self), pause));
        }
    }

    async fn look_until_it_answers(node: Weak<Self>, mut pause: Duration) {
        loop {
            sleep(pause).await;
            // Whoever asked it may be gone.
            let Some(node) = node.upgrade() else { return };
            if node.probe().await {
                return;
            }
            pause = OPEN_FOR;
        }
    }

    /// Connects, and closes the breaker if Redis answers as fast as it has to.
    async fn probe(&self) -> bool {
        let asked = Instant::now();
        let probed = self.connect().await;
        let result = if probed.is_ok() { Counted::Ok } else { Counted::Failed };
        telemetry::count_redis_call(RedisCall::Probe, result, Some(asked.elapsed()));
        let mut state = self.state();
        let State::Open { number, .. } = *state else { return true };
        match probed {
            Ok(connection) => {
                tracing::info!("Redis answers");
                telemetry::set_breaker(false);
                *state = State::Closed { connection, number: number + 1, seen: Seen::default() };
                true
            }
            Err(reason) => {
                if number == 0 {
                    tracing::warn!(reason, "Redis does not answer; each process goes on by itself");
                }
                *state = State::Open { number: number.max(1), looking: true };
                false
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let said = |error: RedisError| error.to_string();
        // As fast as it must be for the breaker to stay closed.
        let patience = self.patience.mul_f64(SLOW);
        let late = |_| format!("no answer within {patience:?}");
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Ours is around every call.
            .set_response_timeout(None);
        let client = redis_client::open(&self.url, CONNECT_TIMEOUT).map_err(said)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // It greets the server as well, so the time-out of the connection alone would not do.
        let connection = timeout(CONNECT_TIMEOUT, connecting).await;
        let mut connection = connection.map_err(|_| "no connection".to_owned())?.map_err(said)?;
        let ping = redis::cmd("PING");
        let mut answered = Err(String::new());
        // Several times: a busy process may find one answer late.
        for _ in 0..PINGS {
            let pong = timeout(patience, ping.query_async::<String>(&mut connection)).await;
            answered = match pong {
                Ok(pong) => return pong.map(|_pong| connection).map_err(said),
                Err(elapsed) => Err(late(elapsed)),
            };
        }
        answered
    }

    fn note(self: &Arc<Self>, of: u64, took: Option<Duration>) {
        let mut state = self.state();
        if let State::Closed { number, seen, .. } = &mut *state
            && *number == of
            && let Some(reason) = seen.note(took, self.patience)
        {
            self.open(&mut state, of, &reason);
        }
    }

    /// Also what a server says of itself (loading, read-only, no memory) is no reason to go on asking it.
    fn failed(self: &Arc<Self>, of: u64, error: &RedisError) {
        let mut state = self.state();
        if matches!(&*state, State::Closed { number, .. } if *number == of) {
            self.open(&mut state, of, &error.to_string());
        }
    }

    fn open(self: &Arc<Self>, state: &mut State, number: u64, reason: &str) {
        tracing::warn!(reason, "Redis is not asked for now; each process goes on by itself");
        telemetry::set_breaker(true);
        *state = State::Open { number, looking: false };
        self.look_after(OPEN_FOR, state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    /// After how many calls no more are made, of those that go like these, again and again.
    fn gives_up_after(calls: &[Option<u64>]) -> Option<usize> {
        let mut seen = Seen::default();
        let calls = calls.iter().cycle().take(1_000);
        calls
            .map(|millis| seen.note(millis.map(Duration::from_millis), PATIENCE))
            .position(|reason| reason.is_some())
            .map(|n| n + 1)
    }

    #[test]
    fn a_redis_that_is_silent_or_late_is_given_up_and_a_busy_process_gives_up_nothing() {
        assert_eq!(gives_up_after(&[None]), Some(3), "silent");
        assert_eq!(gives_up_after(&[Some(1), None]), Some(8), "every other call");
        assert_eq!(gives_up_after(&[Some(15)]), Some(32), "late each time");
        assert_eq!(gives_up_after(&[Some(1)]), None, "quick");
        assert_eq!(gives_up_after(&[Some(9)]), None, "as late as it may be");
        assert_eq!(
            gives_up_after(&[Some(15), Some(18), Some(12), Some(4)]),
            None,
            "found late by a busy process"
        );
        let mut now_and_then = vec![Some(1); 15];
        now_and_then.extend([None, None]);
        assert_eq!(gives_up_after(&now_and_then), None, "a moment's trouble");
    }
}
