//! How every back end runs a batch: begin, lock and load, read the clock, apply, write, commit.
//!
//! If a hold falls short, the batch searches for overdue holds of its resources, without locks. If it finds any, it
//! is rolled back and run again with those holds, and all their resources, in the lock set. If it finds none, the
//! hold is refused, and nothing is written for it (I12).
//!
//! If such a batch fails, one of the overdue holds may be damaged, and no command is to blame. The holds are then
//! expired apart from the batch, and those that cannot be expired are left out. Next: `plan.rs` for the locks,
//! `overdue.rs` for overdue holds, `search.rs` for damaged ones, `retry.rs` for retries.

mod overdue;
mod plan;
mod retry;
mod search;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    time::{Duration, Instant},
};

use super::{CommitMode, Executed, Guard, StoreError, damaged::DamagedHolds};
use crate::engine::{
    Accepted, Change, Changes, Command, EventType, Outcome, Refusal, ReportedStock, ResourceId, Status,
    Timestamp, Token, Traced, WorkingSet, apply,
};
pub(super) use overdue::HoldsOf;
pub(super) use plan::LockPlan;
pub(super) use retry::with_retries;

/// How far the clock may move between the decision of a batch and its last lock, under a guard that locks resources
/// only when it writes them.
const CLOCK_MOVES_MAX: Duration = Duration::from_millis(100);
/// How many times a batch may find that a record which it had locked was changed. Another writer cannot do that, so
/// the record is damaged.
const CHANGED_UNDER_LOCK_MAX: u32 = 2;

/// An open transaction of a back end. If it is dropped without [`Session::commit`], it must roll back.
pub(super) trait Session: Send + Sized {
    /// Locks and reads the records of the plan, and returns them as a working set.
    fn load(&mut self, plan: &LockPlan) -> impl Future<Output = Result<WorkingSet, StoreError>> + Send;

    /// Reads the clock, in a statement of its own after the last lock: a locking statement that waited would return
    /// the time at which it began to wait.
    fn now(&mut self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// Summarises the stored holds of each resource, without locks.
    fn holds_of(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
    ) -> impl Future<Output = Result<HashMap<ResourceId, HoldsOf>, StoreError>> + Send;

    /// Finds stored overdue holds of resources, oldest first, without locks, for each resource at most as many as
    /// `wanted` says.
    fn overdue(
        &mut self,
        wanted: &BTreeMap<ResourceId, u32>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Token>, StoreError>> + Send;

    /// Writes changes. Each changed record must still have the version that the change was decided on. Returns the
    /// time after the last lock, if writing may have waited for a lock.
    fn write(
        &mut self,
        changes: Changes,
    ) -> impl Future<Output = Result<Option<Timestamp>, StoreError>> + Send;

    /// The number of round trips to the database so far.
    fn round_trips(&self) -> u32 {
        0
    }

    /// The number of round trips that a COMMIT or a ROLLBACK takes.
    const ROUND_TRIPS_TO_END: u32 = 0;

    /// Commits the transaction.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Rolls the transaction back.
    fn rollback(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A back end that opens transactions.
pub(super) trait Backend: Sync {
    /// The type of its transactions.
    type Session: Session;

    /// The guard of its transactions.
    fn guard(&self) -> Guard {
        Guard::RowLock
    }

    /// The movements of stock that its transactions report as events.
    fn reported_stock(&self) -> ReportedStock;

    /// The overdue holds that are left out of expiry on demand.
    fn damaged(&self) -> &DamagedHolds;

    /// Opens a transaction that may write.
    fn begin(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
}

/// Runs a batch with [`with_retries`]. The tokens and idempotency keys stay those of the first attempt, so if the
/// COMMIT of an attempt arrived but its reply was lost, the next attempt finds the result.
pub(super) async fn execute<B: Backend>(
    backend: &B,
    commands: &[Traced],
    mode: CommitMode,
) -> Result<Executed, StoreError> {
    let guard = |attempts| match backend.guard() {
        Guard::Conditional if attempts > 0 => Guard::RowLock,
        guard => guard,
    };
    with_retries(|attempts| attempt(backend, commands, mode, (guard(attempts), attempts))).await
}

/// What a batch used in transactions that did not answer it.
#[derive(Debug, Default)]
struct Earlier {
    round_trips: u32,
    expired: u64,
    events: u64,
}

async fn attempt<B: Backend>(
    backend: &B,
    commands: &[Traced],
    mode: CommitMode,
    (guard, attempts): (Guard, u32),
) -> Result<Executed, StoreError> {
    let mut plan = LockPlan::of(commands, guard);
    let (mut round, mut searched) = (0, false);
    let mut earlier = Earlier::default();
    loop {
        match transaction(backend, &plan, commands, (mode, round)).await {
            Ok(Transacted::Ended(mut executed)) => {
                executed.round_trips += earlier.round_trips;
                executed.expired_on_demand += earlier.expired;
                executed.events += earlier.events;
                return Ok(*executed);
            }
            Ok(Transacted::Again { why, round_trips }) => {
                earlier.round_trips += round_trips;
                match why {
                    Again::WithOverdue(more) => {
                        plan.add_overdue(more);
                        round += 1;
                    }
                    Again::UnderLock => plan.guard = Guard::RowLock,
                    Again::Later => plan.repeat_later(),
                }
            }
            Err(failure) => {
                let failure = of_damage(failure, plan.guard, attempts);
                if searched || plan.overdue.is_empty() || !failure.concerns_records() {
                    return Err(failure);
                }
                searched = true;
                let damaged = search::damaged_among(backend, &plan.overdue, mode, &mut earlier).await?;
                if !damaged.is_empty() {
                    let error = crate::telemetry::chain(&failure);
                    tracing::error!(error, holds = ?damaged, "overdue holds cannot be expired and are left out");
                }
                backend.damaged().leave_out(damaged);
                plan = LockPlan::of(commands, Guard::RowLock);
                round = 0;
            }
        }
    }
}

/// Turns a lost race that cannot have been one into what it is. Under row locks no other writer changes a record that
/// was read, so the rows of a record that seems to change again and again do not belong together.
fn of_damage(failure: StoreError, guard: Guard, attempts: u32) -> StoreError {
    let changed = failure.is_changed();
    if changed && guard == Guard::RowLock && attempts >= CHANGED_UNDER_LOCK_MAX {
        let cause = crate::telemetry::chain(&failure);
        return StoreError::Corrupt {
            what: format!("a locked record does not have the rows that were read: {cause}"),
        };
    }
    failure
}

/// The end of one transaction of a batch.
enum Transacted {
    /// It was committed, or had nothing to commit.
    Ended(Box<Executed>),
    /// It was rolled back, and the batch must run again.
    Again { why: Again, round_trips: u32 },
}

/// Why a batch runs again, and how.
enum Again {
    /// With these overdue holds in the lock set.
    WithOverdue(Vec<Token>),
    /// Under row locks: a resource that fell short was read without a lock, and units may have been given back since.
    UnderLock,
    /// Under row locks and at a later time: writing waited for a lock, and the decision is based on the time before.
    Later,
}

async fn transaction<B: Backend>(
    backend: &B,
    plan: &LockPlan,
    commands: &[Traced],
    (mode, round): (CommitMode, u32),
) -> Result<Transacted, StoreError> {
    let mut session = backend.begin().await?;
    let batch = (commands, backend.reported_stock());
    match decide(&mut session, plan, batch, round, backend.damaged()).await {
        Ok(BatchDecision::Apply(applied)) => {
            crate::failpoint::reach("batch.decided").await;
            finish(session, *applied, commands, (plan, mode)).await
        }
        Ok(BatchDecision::Again(why)) => again(session, why).await,
        Err(failure) => Err(roll_back_after(session, failure).await),
    }
}

async fn again<S: Session>(session: S, why: Again) -> Result<Transacted, StoreError> {
    let round_trips = session.round_trips() + S::ROUND_TRIPS_TO_END;
    session.rollback().await?;
    Ok(Transacted::Again { why, round_trips })
}

/// The decision about a batch, from one read of the books.
enum BatchDecision {
    /// Write the changes.
    Apply(Box<AppliedBatch>),
    /// Run the batch again.
    Again(Again),
}

async fn decide<S: Session>(
    session: &mut S,
    plan: &LockPlan,
    (commands, reported): (&[Traced], ReportedStock),
    round: u32,
    damaged: &DamagedHolds,
) -> Result<BatchDecision, StoreError> {
    let read_at = Instant::now();
    let mut set = session.load(plan).await?;
    set.report_stock(reported);
    let now = session.now().await?;
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
    for Traced { command, trace } in commands {
        set.caused_by(*trace);
        outcomes.push(apply(&mut set, command, now));
    }
    if !set.short().is_empty() {
        if matches!(plan.guard, Guard::Conditional | Guard::Optimistic) {
            return Ok(BatchDecision::Again(Again::UnderLock));
        }
        let holds = session.holds_of(set.short(), now).await?;
        let limit = overdue::IN_FIRST_ROUND << round;
        let more = overdue::more(session, (plan, &set), &holds, (now, limit), damaged).await?;
        if !more.is_empty() && round < overdue::ROUNDS_MAX {
            return Ok(BatchDecision::Again(Again::WithOverdue(more)));
        }
        let backlogged = if more.is_empty() { HashMap::new() } else { holds.clone() };
        overdue::refine_refusals(&mut outcomes, &set, &holds, &backlogged);
    }
    Ok(BatchDecision::Apply(Box::new(AppliedBatch { set, outcomes, read_at, now })))
}

/// Rolls back a transaction that lost to another writer or met a damaged record, so that its connection can be reused
/// and its locks are released before the retry. After any other failure the connection is closed with the session.
async fn roll_back_after<S: Session>(session: S, failure: StoreError) -> StoreError {
    if matches!(failure, StoreError::Contended { .. } | StoreError::Corrupt { .. } | StoreError::Value { .. })
    {
        // If the rollback fails too, the connection is closed, which also undoes the transaction.
        let _ = session.rollback().await;
    }
    failure
}

/// A batch whose commands were applied, before its changes are written.
struct AppliedBatch {
    set: WorkingSet,
    outcomes: Vec<Outcome>,
    read_at: Instant,
    now: Timestamp,
}

async fn finish<S: Session>(
    mut session: S,
    applied: AppliedBatch,
    commands: &[Traced],
    (plan, mode): (&LockPlan, CommitMode),
) -> Result<Transacted, StoreError> {
    let AppliedBatch { set, outcomes, read_at, now } = applied;
    debug_assert_eq!(outcomes.len(), commands.len());
    let versions = versions(&outcomes, &set);
    let changes = set.into_changes();
    let expired = changes.events.iter().filter(|event| event.kind == EventType::Expired).count() as u64;
    let on_command = commands.iter().zip(&outcomes).filter(|(traced, outcome)| {
        matches!(traced.command, Command::Expire(_))
            && matches!(outcome, Ok(Accepted::Reservation { change: Change::Changed, .. }))
    });
    let expired_on_demand = expired - (on_command.count() as u64).min(expired);
    let events = changes.events.len() as u64;
    let round_trips = if mode == CommitMode::DryRun || changes.is_empty() {
        let round_trips = session.round_trips();
        session.rollback().await?;
        round_trips
    } else {
        let first_end = first_end(&changes);
        match session.write(changes).await {
            Err(failure) => return Err(roll_back_after(session, failure).await),
            Ok(Some(later)) if plan.is_stale(now, later, first_end) => {
                return again(session, Again::Later).await;
            }
            Ok(_) => {}
        }
        let round_trips = session.round_trips();
        session.commit().await?;
        round_trips
    } + S::ROUND_TRIPS_TO_END;
    let executed = Executed { outcomes, expired_on_demand, events, round_trips, read_at, now, versions };
    Ok(Transacted::Ended(Box::new(executed)))
}

/// When the first hold ends that a batch made or changed.
fn first_end(changes: &Changes) -> Option<Timestamp> {
    let changed = changes.transitions.iter().map(|transition| &transition.reservation);
    let holds = changes.created_reservations.iter().chain(changed);
    holds.filter(|held| held.status == Status::Held).map(|held| held.expires_at).min()
}

/// The versions of the resources that some outcome found short or may have given units back to.
fn versions(outcomes: &[Outcome], set: &WorkingSet) -> Vec<(ResourceId, u64)> {
    let about: BTreeSet<&ResourceId> = outcomes
        .iter()
        .flat_map(|outcome| match outcome {
            Err(Refusal::OutOfStock { resource_id, .. }) => vec![resource_id],
            Err(_) => Vec::new(),
            Ok(accepted) => accepted.given_back(),
        })
        .collect();
    let version = |id: &ResourceId| Some((id.clone(), set.resource(id)?.version));
    about.into_iter().filter_map(version).collect()
}
