//! A Redis node behind a circuit breaker.
//!
//! The connection is the breaker. While there is one (closed), every call uses it and waits for at most the time-out.
//! When it breaks, or when too many calls time out or are slow, it is dropped (open), and calls return at once
//! without an answer. Meanwhile a background task probes Redis every second, whether or not there are calls, and
//! restores the connection when Redis answers quickly (half-open). No call ever waits for a probe or a connection.
//!
//! Never: an error that reaches a customer, a password in a log.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{sleep, timeout};

use super::CoordinationOptions;
use crate::{
    redis_client,
    telemetry::{self, RedisCall, RedisResult as CallResult},
};

/// The breaker opens when more than this share of the recent calls timed out: about three in a row, or every other
/// call.
const TIMEOUTS_MAX: f64 = 0.3;
/// The number of calls that the share averages over, with more weight on the latest.
const SHARE_OF: f64 = 8.0;
/// The breaker also opens when each of `WINDOW` calls, even the quickest, took longer than this part of the time-out.
/// The quickest is compared because a process that is overloaded reads most answers late, even if Redis is as quick
/// as ever.
const WINDOW: u32 = 32;
const SLOW: f64 = 0.5;
/// The pause between two probes while the breaker is open.
const OPEN_FOR: Duration = Duration::from_secs(1);
/// The pings of a probe. If none is answered quickly, Redis counts as slow.
const PINGS: u32 = 4;
/// The time-out of a connection. No call waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A node, shared by all its users in this process.
pub(crate) struct RedisNode {
    url: String,
    timeout: Duration,
    state: Mutex<State>,
}

/// The state of the breaker. `number` counts connections: the result of a call changes the state only if the call was
/// made on the current connection, so that late results of an old connection cannot open a breaker that has just
/// closed.
enum State {
    /// Calls are made on this connection.
    Closed { connection: MultiplexedConnection, number: u64, calls: CallStats },
    /// No calls are made. `probing` says whether a task probes already, so that there is at most one.
    Open { number: u64, probing: bool },
}

/// The statistics of recent calls.
#[derive(Clone, Copy, Debug, Default)]
struct CallStats {
    /// The share of calls that timed out, 0 to 1, as an exponential moving average.
    timeouts: f64,
    /// The calls of the current window, and the duration of the quickest.
    in_window: u32,
    quickest: Option<Duration>,
}

impl CallStats {
    /// Records a call and its duration, `None` if it timed out. Returns the reason if the breaker must open.
    fn record(&mut self, took: Option<Duration>, limit: Duration) -> Option<String> {
        self.timeouts += (f64::from(u8::from(took.is_none())) - self.timeouts) / SHARE_OF;
        if self.timeouts > TIMEOUTS_MAX {
            return Some(format!("too many calls without an answer within {limit:?}"));
        }
        let took = took.unwrap_or(limit);
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        (self.quickest, self.in_window) = (Some(quickest), self.in_window + 1);
        if self.in_window < WINDOW {
            return None;
        }
        (self.quickest, self.in_window) = (None, 0);
        (quickest > limit.mul_f64(SLOW))
            .then(|| format!("each of {WINDOW} calls took {quickest:.1?} or longer"))
    }
}

impl RedisNode {
    /// The node that the options name, if they name one. The first call, or [`Self::connect_early`], starts to connect.
    pub(crate) fn from_options(options: &CoordinationOptions) -> Option<Arc<Self>> {
        let url = options.redis_url.as_ref()?.to_string();
        telemetry::set_open_breaker(true);
        let state = State::Open { number: 0, probing: false };
        Some(Arc::new(Self { url, timeout: options.timeout, state: Mutex::new(state) }))
    }

    /// The URL, which may contain a password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The time-out of a call.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a call. `None` if it failed or timed out, or if the breaker is open. Cancel-safe.
    pub(super) async fn call<T, Answer>(
        self: &Arc<Self>,
        call: RedisCall,
        make: impl FnOnce(MultiplexedConnection) -> Answer,
    ) -> Option<T>
    where
        Answer: Future<Output = RedisResult<T>>,
    {
        let Some((connection, number)) = self.connection() else {
            telemetry::count_redis_call(call, CallResult::Skipped, None);
            return None;
        };
        let began = Instant::now();
        let answer = timeout(self.timeout, make(connection)).await;
        let took = began.elapsed();
        let (answer, result) = match answer {
            Ok(Ok(answer)) => (Some(answer), CallResult::Ok),
            Ok(Err(error)) => {
                self.record_error(number, &error);
                (None, CallResult::Failed)
            }
            Err(_) => (None, CallResult::TimedOut),
        };
        self.record_call(number, (result != CallResult::TimedOut).then_some(took));
        telemetry::count_redis_call(call, result, Some(took));
        answer
    }

    /// Starts to connect, so that there is a connection before the first call.
    pub(crate) fn connect_early(self: &Arc<Self>) {
        self.probe_after(Duration::ZERO, &mut self.state());
    }

    /// The current connection and its number; `None` while the breaker is open.
    fn connection(self: &Arc<Self>) -> Option<(MultiplexedConnection, u64)> {
        let mut state = self.state();
        if let State::Closed { connection, number, .. } = &*state {
            return Some((connection.clone(), *number));
        }
        // Usually a task probes already; the first call ever starts it.
        self.probe_after(Duration::ZERO, &mut state);
        None
    }

    /// Starts a task that probes until Redis answers, unless there is one or the breaker is closed.
    fn probe_after(self: &Arc<Self>, pause: Duration, state: &mut State) {
        if let State::Open { probing, .. } = state
            && !*probing
        {
            *probing = true;
            // The task holds no strong reference, so that it ends when the last user of the node is gone.
            tokio::spawn(Self::probe_until_it_answers(Arc::downgrade(self), pause));
        }
    }

    async fn probe_until_it_answers(node: Weak<Self>, mut pause: Duration) {
        loop {
            sleep(pause).await;
            let Some(node) = node.upgrade() else { return };
            if node.probe().await {
                return;
            }
            pause = OPEN_FOR;
        }
    }

    /// Connects, and closes the breaker if Redis answers quickly enough. Returns whether probing is over.
    async fn probe(&self) -> bool {
        let began = Instant::now();
        // The lock is not held while connecting: calls must be able to see that the breaker is open.
        let probed = self.connect().await;
        let result = if probed.is_ok() { CallResult::Ok } else { CallResult::Failed };
        telemetry::count_redis_call(RedisCall::Probe, result, Some(began.elapsed()));
        let mut state = self.state();
        let State::Open { number, .. } = *state else { return true };
        match probed {
            Ok(connection) => {
                tracing::info!("Redis answers");
                telemetry::set_open_breaker(false);
                // Statistics start afresh: those of the last connection would open the breaker again at once.
                *state = State::Closed { connection, number: number + 1, calls: CallStats::default() };
                true
            }
            Err(reason) => {
                // Number 0 means that there was never a connection. Log that once; a breaker that opens later is
                // logged there.
                if number == 0 {
                    tracing::warn!(reason, "Redis does not answer; each process works without it");
                }
                *state = State::Open { number: number.max(1), probing: true };
                false
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let text = |error: RedisError| error.to_string();
        // The same limit that keeps the breaker closed: a Redis that is too slow for calls must not close it.
        let limit = self.timeout.mul_f64(SLOW);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // `call` puts a time-out around every call.
            .set_response_timeout(None);
        let client = redis_client::open(&self.url, CONNECT_TIMEOUT).map_err(text)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // The time-out of the connection covers TCP and TLS only; the client also sends commands before it returns.
        let connection = timeout(CONNECT_TIMEOUT, connecting).await;
        let mut connection = connection.map_err(|_| "no connection".to_owned())?.map_err(text)?;
        let ping = redis::cmd("PING");
        // Several attempts, because a busy process may read one answer late.
        for _ in 0..PINGS {
            if let Ok(pong) = timeout(limit, ping.query_async::<String>(&mut connection)).await {
                return pong.map(|_pong| connection).map_err(text);
            }
        }
        Err(format!("no answer within {limit:?}"))
    }

    /// Records the duration of a call, and opens the breaker if calls time out or are slow.
    fn record_call(self: &Arc<Self>, of: u64, took: Option<Duration>) {
        let mut state = self.state();
        if let State::Closed { number, calls, .. } = &mut *state
            && *number == of
            && let Some(reason) = calls.record(took, self.timeout)
        {
            self.open_breaker(&mut state, of, &reason);
        }
    }

    /// Opens the breaker after an error. That includes errors that a server answers (it is loading, read-only or out
    /// of memory), because further calls would fail as well.
    fn record_error(self: &Arc<Self>, of: u64, error: &RedisError) {
        let mut state = self.state();
        if matches!(&*state, State::Closed { number, .. } if *number == of) {
            self.open_breaker(&mut state, of, &error.to_string());
        }
    }

    fn open_breaker(self: &Arc<Self>, state: &mut State, number: u64, reason: &str) {
        tracing::warn!(reason, "calls to Redis are suspended; each process works without it");
        telemetry::set_open_breaker(true);
        *state = State::Open { number, probing: false };
        self.probe_after(OPEN_FOR, state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    /// The number of calls after which the breaker opens, if calls take these durations over and over.
    fn opens_after(calls: &[Option<u64>]) -> Option<usize> {
        let mut stats = CallStats::default();
        let calls = calls.iter().cycle().take(1_000);
        calls
            .map(|millis| stats.record(millis.map(Duration::from_millis), TIMEOUT))
            .position(|reason| reason.is_some())
            .map(|n| n + 1)
    }

    #[test]
    fn the_breaker_opens_for_a_slow_redis_and_not_for_a_busy_process() {
        assert_eq!(opens_after(&[None]), Some(3), "silent");
        assert_eq!(opens_after(&[Some(1), None]), Some(8), "every other call");
        assert_eq!(opens_after(&[Some(15)]), Some(32), "each call is slow");
        assert_eq!(opens_after(&[Some(1)]), None, "quick");
        assert_eq!(opens_after(&[Some(9)]), None, "just quick enough");
        assert_eq!(
            opens_after(&[Some(15), Some(18), Some(12), Some(4)]),
            None,
            "a busy process reads most answers late"
        );
        let mut occasional = vec![Some(1); 15];
        occasional.extend([None, None]);
        assert_eq!(opens_after(&occasional), None, "a short disturbance");
    }
}
