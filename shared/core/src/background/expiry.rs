//! Ends holds on time when nobody asks for their units: the timer beside expiry on demand.
//!
//! A step expires what is due and says when to come back; the loop around it sleeps until then. It looks again at least
//! every half second, which is shorter than the shortest TTL, so it sees the holds of other processes before they are
//! due, and a lone hold is expired within milliseconds of its time.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{RunReport, RunUntil};
use crate::{
    dispatch::{Dispatch, DispatchError},
    engine::{Accepted, Change, Command, Token},
    store::Store,
    telemetry::{self, ExpiryPath},
};

/// Half of the shortest TTL ([`crate::engine::Ttl`] is at least a second).
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Holds per step: they share the lanes with customers.
const HOLDS_PER_STEP: u32 = 256;

/// When a full queue is tried again.
const QUEUE_FULL_AGAIN: Duration = Duration::from_millis(10);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Holds that it expired.
    pub expired: u64,
    /// When to take the next.
    pub next_at: Instant,
}

/// The timer.
pub struct Expiry {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
    /// Holds whose expiry failed by themselves, which must not stand in the way of others.
    set_aside: HashSet<Token>,
    path: ExpiryPath,
}

impl Expiry {
    /// A timer over a store, whose expiries go the way of all commands.
    pub fn new(store: Arc<dyn Store>, dispatch: Arc<Dispatch>) -> Self {
        Self { store, dispatch, set_aside: HashSet::new(), path: ExpiryPath::Timer }
    }

    /// Counts what it expires under another path than [`ExpiryPath::Timer`].
    #[must_use]
    pub fn counted_as(mut self, path: ExpiryPath) -> Self {
        self.path = path;
        self
    }

    /// Expires holds that are due. Not cancel-safe: what it had begun goes on.
    ///
    /// # Errors
    /// The database is away, or the process is stopping.
    pub async fn step(&mut self) -> Result<Step, DispatchError> {
        let read_at = Instant::now();
        let limit = HOLDS_PER_STEP.saturating_add(u32::try_from(self.set_aside.len()).unwrap_or(u32::MAX));
        let due = self.dispatch.read(self.store.due(limit)).await?;
        let mut commands = JoinSet::new();
        for token in due.tokens.into_iter().filter(|token| !self.set_aside.contains(token)) {
            let dispatch = self.dispatch.clone();
            commands.spawn(async move { (token, dispatch.submit(Command::Expire(token)).await) });
        }
        let mut expired = 0;
        let mut full = false;
        let mut failure = None;
        while let Some(outcome) = commands.join_next().await {
            match outcome {
                Ok((_, Ok(Ok(Accepted::Reservation { change: Change::Changed, .. })))) => expired += 1,
                // Somebody else was first: that is what it means to be one of several.
                Ok((_, Ok(_))) => {}
                Ok((_, Err(DispatchError::Full))) => full = true,
                // It would meet the others too, and is over some time: none of them is to blame.
                Ok((_, Err(error))) if error.meets_others() => failure = Some(error),
                Ok((token, Err(_logged))) => {
                    self.set_aside.insert(token);
                }
                Err(_panicked) => failure = Some(DispatchError::Panicked),
            }
        }
        // Only now: nothing of the step is under way any more.
        if let Some(error) = failure {
            return Err(error);
        }
        telemetry::count_expired(self.path, expired);
        let until_next = due.next.map_or(LOOK_AGAIN, |next| {
            Duration::try_from(next.duration_since(due.now)).unwrap_or(Duration::ZERO)
        });
        let next_in = if full { QUEUE_FULL_AGAIN } else { until_next.min(LOOK_AGAIN) };
        Ok(Step { expired, next_at: read_at + next_in })
    }

    /// Takes steps, and says how many holds they expired. Failures were logged where they were met.
    pub async fn run(mut self, until: RunUntil, stop: CancellationToken) -> RunReport<u64> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let next_at = match self.step().await {
                Ok(step) => {
                    report.total += step.expired;
                    report.failure = None;
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
                    Instant::now() + LOOK_AGAIN
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
