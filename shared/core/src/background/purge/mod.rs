//! The purge: deletes records past their retention, in small steps, so that customers do not notice it.
//!
//! A pass goes through events, inbox, reservations, deliveries and locks, one step of each in turn, so that a long
//! backlog of one kind does not keep the others waiting. One process purges for all (`turn.rs`). `store/purge.rs`
//! decides which records may be deleted.

mod turn;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{ClockWatch, ClocksDiffer, RunReport, RunUntil};
use crate::{
    dispatch::{Dispatch, DispatchError},
    engine::Token,
    store::Database,
    telemetry,
};
use turn::Turn;

/// The most records per step.
const STEP: u32 = 500;
/// The pause after a step if no kind is behind.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a process looks whether it is its turn.
const TURN_EVERY: Duration = Duration::from_secs(60);
/// How often a pass looks at all reservations, also at those before which only COMMITTED ones were left: some of them
/// may have been cancelled since.
const ALL_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
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

/// The position of a pass in one kind of records.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    Events,
    Inbox,
    /// After this reservation.
    Reservations(Option<Token>),
    Deliveries,
    /// Deliveries of endpoints that are being deleted.
    Deletions,
    /// Old deliveries that are not sent, because their endpoint is disabled.
    Unsent,
    /// After the lock of this name.
    Locks(Option<String>),
}

/// The reservations that a pass may leave out.
#[derive(Debug, Default)]
struct Settled {
    /// Up to this token, the last pass left only COMMITTED reservations.
    before: Option<Token>,
    /// When a pass looked at all reservations.
    all_at: Option<Instant>,
    /// Whether this pass has found nothing but COMMITTED reservations so far.
    so_far: bool,
}

/// A task that purges.
pub struct Purger {
    store: Arc<dyn Database>,
    dispatch: Arc<Dispatch>,
    retention: Retention,
    /// The kinds that have records left in this pass; the next step is that of the first.
    left: VecDeque<Position>,
    settled: Settled,
    turn: Turn,
    /// How many steps in a row found no kind behind.
    idle_steps: usize,
    /// Whether it purges although another process has completed a pass recently.
    insists: bool,
    watch: Option<Arc<ClockWatch>>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeStep {
    /// Records that were deleted.
    pub deleted: u64,
    /// Whether the pass has further steps.
    pub more: bool,
    /// Why nothing was deleted, although there may be something.
    pub held_back: Option<HeldBack>,
}

/// Why a purger deletes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// Another process purges, or has done so recently.
    ByAnother,
    /// The clock of the database may have jumped.
    ByClock(ClocksDiffer),
}

impl PurgeStep {
    fn held_back(by: HeldBack, more: bool) -> Self {
        Self { deleted: 0, more, held_back: Some(by) }
    }
}

impl Purger {
    /// A purger at the beginning of a pass.
    pub fn new(store: Arc<dyn Database>, dispatch: Arc<Dispatch>, retention: Retention) -> Self {
        let turn = Turn::new(store.clone());
        let (left, settled) = (VecDeque::new(), Settled::default());
        Self { store, dispatch, retention, left, settled, turn, idle_steps: 0, insists: true, watch: None }
    }

    /// Sets whether it purges although another process has completed a pass within the last hour. A purger does at
    /// first; a process that purges regularly should not.
    pub fn set_insists(&mut self, insists: bool) {
        self.insists = insists;
    }

    /// Deletes nothing while the clock of the database differs too much from another one.
    #[must_use]
    pub fn guarded_by(mut self, watch: Arc<ClockWatch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Takes the next step of the pass, if it is this process's turn. Not cancel-safe.
    ///
    /// # Errors
    /// The database is unavailable; the step may be retried.
    pub async fn step(&mut self) -> Result<PurgeStep, DispatchError> {
        if let Some(watch) = &self.watch {
            let began = Instant::now();
            let now = self.dispatch.run_maintenance(self.store.now()).await?;
            if let Err(differ) = watch.compare(now, began.elapsed()) {
                return Ok(PurgeStep::held_back(HeldBack::ByClock(differ), true));
            }
        }
        // A pass that is under way is completed.
        let insists = self.insists || !self.left.is_empty();
        if !self.dispatch.run_maintenance(self.turn.has(insists)).await? {
            return Ok(PurgeStep::held_back(HeldBack::ByAnother, false));
        }
        if self.left.is_empty() {
            self.begin_pass();
        }
        // If the step fails, its position stays the first.
        let Some(position) = self.left.front().cloned() else {
            return Ok(PurgeStep { deleted: 0, more: false, held_back: None });
        };
        let (deleted, next) = self.step_at(position).await?;
        self.left.pop_front();
        // A kind is behind if there was something to delete, and there may be more.
        self.idle_steps = if deleted > 0 && next.is_some() { 0 } else { self.idle_steps + 1 };
        self.left.extend(next);
        let more = !self.left.is_empty();
        if !more {
            self.dispatch.run_maintenance(self.turn.complete()).await?;
        }
        Ok(PurgeStep { deleted, more, held_back: None })
    }

    fn begin_pass(&mut self) {
        if self.settled.all_at.is_none_or(|at| at.elapsed() >= ALL_EVERY) {
            self.settled = Settled { before: None, all_at: Some(Instant::now()), so_far: true };
        }
        self.settled.so_far = true;
        self.left.extend([
            Position::Events,
            Position::Inbox,
            Position::Reservations(self.settled.before),
            Position::Deliveries,
            Position::Deletions,
            Position::Unsent,
            Position::Locks(None),
        ]);
    }

    /// Takes a step at a position; returns the number of deleted records, and the next position of this kind.
    async fn step_at(&mut self, position: Position) -> Result<(u64, Option<Position>), DispatchError> {
        let (store, dispatch, retention) = (&self.store, &self.dispatch, &self.retention);
        let full = |deleted: u64| deleted >= u64::from(STEP);
        let (what, deleted, next) = match position {
            Position::Events => {
                let purged = dispatch.run_maintenance(store.purge_events(retention.events, STEP)).await?;
                ("events", purged.deleted, full(purged.deleted).then_some(Position::Events))
            }
            Position::Inbox => {
                let purged = dispatch.run_maintenance(store.purge_inbox(retention.inbox, STEP)).await?;
                ("inbox", purged.deleted, full(purged.deleted).then_some(Position::Inbox))
            }
            Position::Reservations(after) => {
                let purge = store.purge_reservations(retention.reservations, after, STEP);
                let purged = dispatch.run_maintenance(purge).await?;
                self.settled.so_far &= purged.only_committed_left;
                if self.settled.so_far && purged.next.is_some() {
                    self.settled.before = purged.next;
                }
                let next = purged.next.map(|token| Position::Reservations(Some(token)));
                ("reservations", purged.deleted, next)
            }
            Position::Deliveries => {
                let purge = store.purge_deliveries(retention.deliveries, STEP);
                let deleted = dispatch.run_maintenance(purge).await?;
                ("deliveries", deleted, full(deleted).then_some(Position::Deliveries))
            }
            Position::Deletions => {
                let deleted = dispatch.run_maintenance(store.continue_deletion(STEP)).await?;
                ("deliveries", deleted, full(deleted).then_some(Position::Deletions))
            }
            Position::Unsent => {
                let purge = store.purge_disabled(retention.deliveries, STEP);
                let deleted = dispatch.run_maintenance(purge).await?;
                telemetry::count_webhook_unsent("disabled", deleted);
                ("deliveries", deleted, full(deleted).then_some(Position::Unsent))
            }
            Position::Locks(after) => {
                let purge = store.purge_leases(LOCKS_KEPT, after.as_deref(), STEP);
                let purged = dispatch.run_maintenance(purge).await?;
                ("locks", purged.deleted, purged.next.map(|name| Position::Locks(Some(name))))
            }
        };
        telemetry::count_purged(what, deleted);
        Ok((deleted, next))
    }

    /// Takes steps until `until` or `stop` ends the run, and returns the number of deleted records. The dispatch logs
    /// failures; after one, the pass continues where it was.
    pub async fn run(&mut self, until: RunUntil, stop: CancellationToken) -> RunReport<u64> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let began = Instant::now();
            let (pause, is_done) = match self.step().await {
                Ok(PurgeStep { held_back: Some(HeldBack::ByAnother), .. }) => {
                    report.failure = None;
                    (TURN_EVERY, true)
                }
                Ok(PurgeStep { held_back: Some(HeldBack::ByClock(differ)), .. }) => {
                    report.failure = Some(differ.to_string());
                    (TURN_EVERY, true)
                }
                Ok(PurgeStep { deleted, more, held_back: None }) => {
                    report.total += deleted;
                    report.failure = None;
                    (if more { self.pause_after(began.elapsed()) } else { TURN_EVERY }, !more)
                }
                Err(logged) => {
                    report.failure = Some(telemetry::chain(&logged));
                    (BACK_OFF, true)
                }
            };
            if is_done && until == RunUntil::Idle {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Another process need not wait until the lease ends. If this fails, it has to.
        let _ = self.dispatch.run_maintenance(self.turn.end()).await;
        report
    }

    /// The pause after a step. While records are behind there is none, but for customers that wait: they have at least
    /// every other transaction.
    fn pause_after(&self, took: Duration) -> Duration {
        if self.idle_steps >= self.left.len() {
            return PAUSE;
        }
        if self.dispatch.waiting() > 0 { took.min(PAUSE) } else { Duration::ZERO }
    }

    /// Whether the purger is at the beginning of a pass, so that the last pass, if any, is complete.
    pub fn is_at_beginning(&self) -> bool {
        self.left.is_empty()
    }
}
