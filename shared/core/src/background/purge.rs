//! Forgets what is old: small steps with pauses between them, so that customers do not notice.
//!
//! A step says whether more is left; the loop around it paces them. What may be forgotten is `store/purge.rs`'s to say.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{RunReport, RunUntil};
use crate::{
    dispatch::{Dispatch, DispatchError},
    engine::Token,
    store::Database,
    telemetry,
};

/// Records per step.
const STEP: u32 = 500;
/// Between two steps, while there is more.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long locks are remembered after their end: longer than the clock of a database ever goes back, since who forgot a lock
/// numbers its grants from there. As Redis does.
const LOCKS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// After a step that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// For how long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Reservations that were released, expired or cancelled, since then; and with them their idempotency keys.
    pub reservations: Duration,
    /// Published events, since their publication.
    pub events: Duration,
    /// Which events were applied, since then.
    pub inbox: Duration,
    /// Webhook deliveries, since they were made or given up.
    pub deliveries: Duration,
}

/// Where a pass is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Events,
    Inbox,
    Reservations(Option<Token>),
    Deliveries,
    /// Behind the row of this name.
    Locks(Option<String>),
}

/// The task that forgets.
pub struct Purger {
    store: Arc<dyn Database>,
    dispatch: Arc<Dispatch>,
    retention: Retention,
    at: At,
    /// Whether a step of this pass was taken.
    begun: bool,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Records that are gone now.
    pub deleted: u64,
    /// Whether the pass goes on.
    pub more: bool,
}

impl Purger {
    /// One that stands at the beginning of a pass.
    pub fn new(store: Arc<dyn Database>, dispatch: Arc<Dispatch>, retention: Retention) -> Self {
        Self { store, dispatch, retention, at: At::Events, begun: false }
    }

    /// Takes the next step of a pass: events first, because a reservation goes only after its events. Not cancel-safe.
    ///
    /// # Errors
    /// The database is away; the step may be taken again.
    pub async fn step(&mut self) -> Result<Step, DispatchError> {
        self.begun = true;
        let step = self.next_step().await?;
        self.begun = step.more;
        Ok(step)
    }

    async fn next_step(&mut self) -> Result<Step, DispatchError> {
        match &self.at {
            At::Events => {
                let purged = self
                    .dispatch
                    .run_maintenance(self.store.purge_events(self.retention.events, STEP))
                    .await?;
                telemetry::count_purged("events", purged.deleted);
                if purged.deleted < u64::from(STEP) {
                    self.at = At::Inbox;
                }
                Ok(Step { deleted: purged.deleted, more: true })
            }
            At::Inbox => {
                let purged =
                    self.dispatch.run_maintenance(self.store.purge_inbox(self.retention.inbox, STEP)).await?;
                telemetry::count_purged("inbox", purged.deleted);
                if purged.deleted < u64::from(STEP) {
                    self.at = At::Reservations(None);
                }
                Ok(Step { deleted: purged.deleted, more: true })
            }
            At::Reservations(after) => {
                let purge = self.store.purge_reservations(self.retention.reservations, *after, STEP);
                let purged = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("reservations", purged.deleted);
                self.at = purged.next.map_or(At::Deliveries, |token| At::Reservations(Some(token)));
                Ok(Step { deleted: purged.deleted, more: true })
            }
            At::Deliveries => {
                let purge = self.store.purge_deliveries(self.retention.deliveries, STEP);
                let deleted = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("deliveries", deleted);
                if deleted < u64::from(STEP) {
                    self.at = At::Locks(None);
                }
                Ok(Step { deleted, more: true })
            }
            At::Locks(after) => {
                let purge = self.store.purge_leases(LOCKS_KEPT, after.as_deref(), STEP);
                let purged = self.dispatch.run_maintenance(purge).await?;
                telemetry::count_purged("locks", purged.deleted);
                let more = purged.next.is_some();
                self.at = if more { At::Locks(purged.next) } else { At::Events };
                Ok(Step { deleted: purged.deleted, more })
            }
        }
    }

    /// Takes steps, and says how many records are gone. Failures were logged where they were met; the pass goes on later.
    pub async fn run(&mut self, until: RunUntil, stop: CancellationToken) -> RunReport<u64> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(Step { deleted, more }) => {
                    report.total += deleted;
                    report.failure = None;
                    match (more, until) {
                        // Nobody else's time is taken by a step that found nothing.
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
                    AGAIN
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        report
    }

    /// Whether it stands at the beginning of a pass: the last one, if there was one, went through.
    pub fn is_at_beginning(&self) -> bool {
        self.at == At::Events && !self.begun
    }
}
