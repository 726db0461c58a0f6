//! What dispatchers have learned about a receiver, and what follows from it: the circuit breaker of an endpoint, and
//! the reasons to disable it. Rules without I/O, applied by every back end in the transaction that records attempts.

use std::time::Duration;

use crate::engine::Timestamp;

/// The consecutive failures after which the circuit of an endpoint opens.
pub const FAILURES_TO_OPEN: u32 = 5;
/// The pause after the circuit opens for the first time. Each further failure doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest pause between two probes of an endpoint whose circuit is open.
pub const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// The answers of 410 that are needed before an endpoint is disabled, so that one answer of a misrouted proxy is not
/// enough.
pub const GONE_TO_DISABLE: u32 = 3;
/// The time over which these answers must be spread.
pub const GONE_FOR: Duration = Duration::from_secs(60 * 60);

/// What the result of an attempt says about the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The message was delivered.
    Delivered,
    /// The receiver answered, and refused this message: it is alive.
    Refused,
    /// There was no complete answer, or one that says that the receiver cannot serve at present (408, 429, 5xx).
    Failed,
    /// The receiver answered 410 Gone.
    Gone,
}

/// The state of the circuit breaker of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Deliveries are attempted as they become due.
    Closed,
    /// Nothing is attempted until this time.
    Open(Timestamp),
    /// The pause is over: one delivery is attempted, and its result closes the circuit or opens it for longer.
    HalfOpen,
}

impl Circuit {
    /// The name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open(_) => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        }
    }
}

/// The record of an endpoint that failed recently. An endpoint without one is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Attempts that failed in succession: [`Sign::Failed`] or [`Sign::Gone`].
    pub failures: u32,
    /// The first attempt since the last delivery that did not deliver.
    pub failing_since: Option<Timestamp>,
    /// Nothing is attempted before this time; `None` if the circuit is closed.
    pub paused_until: Option<Timestamp>,
    /// Answers of 410 without another answer between them.
    pub gone: u32,
    /// The first of these answers.
    pub gone_since: Option<Timestamp>,
    /// Whether as many deliveries are pending as may be: further events are enqueued as failed.
    pub is_full: bool,
}

/// The part of an attempt that concerns the health of its endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// What the result says.
    pub sign: Sign,
    /// Whether the attempt probed an endpoint whose circuit was open.
    pub is_probe: bool,
    /// A random number from 0 to 1, which spreads the probes of endpoints that failed together.
    pub random: f64,
}

impl EndpointHealth {
    /// The state of the circuit at `now`.
    pub fn circuit(&self, now: Timestamp) -> Circuit {
        match self.paused_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open(until),
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// The health after an attempt, and the reason to disable the endpoint if there is one. `disable_after` is the time
    /// without any delivery after which a failure disables it.
    pub(crate) fn after(
        mut self,
        seen: &Observation,
        now: Timestamp,
        disable_after: Duration,
    ) -> (Self, Option<String>) {
        if seen.sign == Sign::Delivered {
            return (Self { is_full: self.is_full, ..Self::default() }, None);
        }
        let since = *self.failing_since.get_or_insert(now);
        if seen.sign != Sign::Failed {
            self.gone = if seen.sign == Sign::Gone { self.gone.saturating_add(1) } else { 0 };
            self.gone_since = (self.gone > 0).then(|| self.gone_since.unwrap_or(now));
        }
        if seen.sign == Sign::Refused {
            (self.failures, self.paused_until) = (0, None);
        } else if seen.is_probe || self.circuit(now) == Circuit::Closed {
            // An attempt that began before the circuit opened says nothing new.
            self.failures = self.failures.saturating_add(1);
            if self.failures >= FAILURES_TO_OPEN {
                let pause = pause(self.failures - FAILURES_TO_OPEN, seen.random);
                self.paused_until = Some(now.checked_add(pause).unwrap_or(Timestamp::MAX));
            }
        }
        let lasted = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let is_gone =
            self.gone >= GONE_TO_DISABLE && self.gone_since.is_some_and(|at| lasted(at) >= GONE_FOR);
        let reason = if is_gone {
            Some(format!("it answered 410 Gone {} times, for {}", self.gone, hours(GONE_FOR)))
        } else if lasted(since) >= disable_after {
            Some(format!("nothing was delivered for {}", hours(disable_after)))
        } else {
            None
        };
        (self, reason)
    }
}

/// The pause after the `n`th failure beyond the one that opened the circuit: doubled each time, of which at least half.
fn pause(n: u32, random: f64) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << n.min(16)).min(PAUSE_MAX);
    longest.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

fn hours(span: Duration) -> String {
    match span.as_secs() / 3_600 {
        1 => "1 hour".to_owned(),
        hours => format!("{hours} hours"),
    }
}
