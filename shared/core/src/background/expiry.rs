//! The expiry timer: ends holds on time if no reservation needs their units. A reservation that does expires them
//! itself.
//!
//! A step expires due holds and returns when to take the next; the loop sleeps until then. It reads the database at
//! least every half second, which is shorter than the shortest TTL, so it sees the holds of other processes before
//! they are due, and a single hold is expired within milliseconds of its time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{ClockWatch, ClocksDiffer, RunReport, RunUntil};
use crate::{
    dispatch::{Dispatch, DispatchError},
    engine::{Accepted, Change, Command, Token},
    store::Store,
    telemetry::{self, ExpiryPath},
};

/// The longest time between two steps: half of the shortest TTL ([`crate::engine::Ttl`] is at least a second).
const POLL: Duration = Duration::from_millis(500);
/// The most holds per step, since expiries share the lanes with customers.
const HOLDS_PER_STEP: u32 = 256;

/// How long a hold is skipped whose own expiry failed. An operator may repair it.
const SET_ASIDE_FOR: Duration = Duration::from_secs(60);

/// The pause after a step that found a full queue.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(10);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryStep {
    /// Holds that were expired.
    pub expired: u64,
    /// When to take the next step.
    pub next_at: Instant,
    /// Why overdue holds were left alone, although there may be some.
    pub held_back: Option<ClocksDiffer>,
}

/// The expiry timer.
pub struct Expiry {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
    /// Holds whose own expiry failed, and when. They are skipped for a while, so that they do not block others.
    set_aside: HashMap<Token, Instant>,
    path: ExpiryPath,
    watch: Option<Arc<ClockWatch>>,
}

impl Expiry {
    /// A timer over a store. It submits expiries to the dispatch, like all commands.
    pub fn new(store: Arc<dyn Store>, dispatch: Arc<Dispatch>) -> Self {
        Self { store, dispatch, set_aside: HashMap::new(), path: ExpiryPath::Timer, watch: None }
    }

    /// Counts expired holds under another path than [`ExpiryPath::Timer`] in the metrics.
    #[must_use]
    pub fn counted_as(mut self, path: ExpiryPath) -> Self {
        self.path = path;
        self
    }

    /// Leaves overdue holds alone while the clock of the database differs too much from another one.
    #[must_use]
    pub fn guarded_by(mut self, watch: Arc<ClockWatch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Expires due holds. Not cancel-safe: expiries that were submitted go on.
    ///
    /// # Errors
    /// The database is unavailable, or the process is shutting down.
    pub async fn step(&mut self) -> Result<ExpiryStep, DispatchError> {
        let read_at = Instant::now();
        self.set_aside.retain(|_, since| since.elapsed() < SET_ASIDE_FOR);
        let limit = HOLDS_PER_STEP.saturating_add(u32::try_from(self.set_aside.len()).unwrap_or(u32::MAX));
        let due = self.dispatch.read(self.store.due(limit)).await?;
        let compared = self.watch.as_ref().map(|watch| watch.compare(due.now, read_at.elapsed()));
        if let Some(Err(differ)) = compared {
            return Ok(ExpiryStep { expired: 0, next_at: read_at + POLL, held_back: Some(differ) });
        }
        let mut commands = JoinSet::new();
        for token in due.tokens.into_iter().filter(|token| !self.set_aside.contains_key(token)) {
            let dispatch = self.dispatch.clone();
            commands.spawn(async move { (token, dispatch.submit(Command::Expire(token)).await) });
        }
        let mut expired = 0;
        let mut full = false;
        let mut failure = None;
        while let Some(outcome) = commands.join_next().await {
            match outcome {
                Ok((_, Ok(Ok(Accepted::Reservation { change: Change::Changed, .. })))) => expired += 1,
                // Another process or a customer was faster, which is normal with several processes.
                Ok((_, Ok(_))) => {}
                Ok((_, Err(DispatchError::Full))) => full = true,
                // A failure that every command would meet, such as an outage. The holds are not at fault.
                Ok((_, Err(error))) if error.affects_whole_batch() => failure = Some(error),
                Ok((token, Err(_logged))) => {
                    self.set_aside.insert(token, Instant::now());
                }
                Err(_panicked) => failure = Some(DispatchError::Panicked),
            }
        }
        // Return the failure only now, when no expiry of this step is in flight any more.
        if let Some(error) = failure {
            return Err(error);
        }
        telemetry::count_expired(self.path, expired);
        let until_next = due
            .next
            .map_or(POLL, |next| Duration::try_from(next.duration_since(due.now)).unwrap_or(Duration::ZERO));
        let next_in = if full { QUEUE_FULL_PAUSE } else { until_next.min(POLL) };
        Ok(ExpiryStep { expired, next_at: read_at + next_in, held_back: None })
    }

    /// Takes steps until `until` or `stop` ends the run, and returns the number of expired holds. The dispatch logs
    /// failures.
    pub async fn run(mut self, until: RunUntil, stop: CancellationToken) -> RunReport<u64> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let next_at = match self.step().await {
                Ok(step) => {
                    report.total += step.expired;
                    report.failure = step.held_back.map(|differ| differ.to_string());
                    if until == RunUntil::Idle && step.expired == 0 && step.next_at > Instant::now() {
                        return report;
                    }
                    step.next_at
                }
                Err(DispatchError::Stopping) => return report,
                Err(logged) => {
                    report.failure = Some(telemetry::chain(&logged));
                    if until == RunUntil::Idle {
                        return report;
                    }
                    Instant::now() + POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep_until(next_at.into()) => {}
            }
        }
        report
    }
}
