//! The purge: deletes records past their retention, in small steps with pauses, so that customers do not notice it.
//!
//! A pass goes through events, inbox, reservations, deliveries and locks. Each step returns whether the pass goes on;
//! the loop paces the steps. `store/purge.rs` decides which records may be deleted.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{RunReport, RunUntil};
use crate::{
    dispatch::{Dispatch, DispatchError},
    engine::Token,
    store::Database,
    telemetry,
};

/// The most records per step.
const STEP: u32 = 500;
/// The pause between two steps of a pass.
const PAUSE: Duration = Duration::from_millis(50);
/// The pause between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// The retention of locks after their end. It must be longer than the clock of a database can ever jump back, because
/// a lock without a row takes its next fencing number from the clock. Redis keeps its counters as long.
const LOCKS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after a failed step.
const BACK_OFF: Duration = Duration::from_secs(5);

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Reservations, after their release, expiry or cancellation; their idempotency keys are deleted with them.
    pub reservations: Duration,
    /// Published events, after their publication.
    pub events: Duration,
    /// Inbox rows, after the event was applied.
    pub inbox: Duration,
    /// Webhook deliveries, after they succeeded or were given up.
    pub deliveries: Duration,
}

/// The position of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Events,
    Inbox,
    Reservations(Option<Token>),
    Deliveries,
    /// After the lock of this name.
    Locks(Option<String>),
}

/// A task that purges.
pub struct Purger {
    store: Arc<dyn Database>,
    dispatch: Arc<Dispatch>,
    retention: Retention,
    phase: Phase,
    /// Whether a step of this pass was taken.
    begun: bool,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeStep {
    /// Records that were deleted.
    pub deleted: u64,
    /// Whether the pass has further steps.
    pub more: bool,
}

impl Purger {
    /// A purger at the beginning of a pass.
    pub fn new(store: Arc<dyn Database>, dispatch: Arc<Dispatch>, retention: Retention) -> Self {
        Self { store, dispatch, retention, phase: Phase::Events, begun: false }
    }

    /// Takes the next step of the pass. Events come first, because a reservation is deleted only after its events. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// The database is unavailable; the step may be retried.
    pub async fn step(&mut self) -> Result<PurgeStep, DispatchError> {
        self.begun = true;
        let step = self.next_step().await?;
        self.begun = step.more;
        Ok(step)
    }

    async fn next_step(&mut self) -> Result<PurgeStep, DispatchError> {
        match &self.phase {
            Phase::Events => {
                let purged = self
                    .dispatch
                    .run_maintenance(self.store.purge_events(self.retention.events, STEP))
                    .await?;
                telemetry::count_purged("events", purged.deleted);
                if purged.deleted < u64::from(STEP) {
                    self.phase = Phase::Inbox;
                }
                Ok(PurgeStep { deleted: purged.deleted, more: true })
            }
            Phase::Inbox => {
                let purged =
                    self.dispatch.run_maintenance(self.store.purge_inbox(self.retention.inbox, STEP)).await?;
                telemetry::count_purged("inbox", purged.deleted);
                if purged.deleted < u64::from(STEP) {
                    self.phase = Phase::Reservations(None);
                }
                Ok(PurgeStep { deleted: purged.deleted, more: true })
            }
            Phase::Reservations(after) => {
                let purge = self.store.purge_reservations(self.retention.reservations, *after, STEP);
                let purged = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("reservations", purged.deleted);
                self.phase = purged.next.map_or(Phase::Deliveries, |token| Phase::Reservations(Some(token)));
                Ok(PurgeStep { deleted: purged.deleted, more: true })
            }
            Phase::Deliveries => {
                let purge = self.store.purge_deliveries(self.retention.deliveries, STEP);
                let deleted = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("deliveries", deleted);
                if deleted < u64::from(STEP) {
                    self.phase = Phase::Locks(None);
                }
                Ok(PurgeStep { deleted, more: true })
            }
            Phase::Locks(after) => {
                let purge = self.store.purge_leases(LOCKS_KEPT, after.as_deref(), STEP);
                let purged = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("locks", purged.deleted);
                let more = purged.next.is_some();
                self.phase = if more { Phase::Locks(purged.next) } else { Phase::Events };
                Ok(PurgeStep { deleted: purged.deleted, more })
            }
        }
    }

    /// Takes steps until `until` or `stop` ends the run, and returns the number of deleted records. The dispatch logs
    /// failures; after one, the pass continues where it was.
    pub async fn run(&mut self, until: RunUntil, stop: CancellationToken) -> RunReport<u64> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(PurgeStep { deleted, more }) => {
                    report.total += deleted;
                    report.failure = None;
                    match (more, until) {
                        // A step that found nothing took no time from others, so it needs no pause.
                        (true, RunUntil::Idle) if deleted == 0 => continue,
                        (true, _) => PAUSE,
                        (false, RunUntil::Idle) => return report,
                        (false, RunUntil::Stopped) => PASS_EVERY,
                    }
                }
                Err(logged) => {
                    report.failure = Some(telemetry::chain(&logged));
                    if until == RunUntil::Idle {
                        return report;
                    }
                    BACK_OFF
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        report
    }

    /// Whether the purger is at the beginning of a pass, so that the last pass, if any, is complete.
    pub fn is_at_beginning(&self) -> bool {
        self.phase == Phase::Events && !self.begun
    }
}
