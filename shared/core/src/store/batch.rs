//! How every back end runs a batch: begin, lock and load, read the clock, apply, write, commit.
//!
//! If a hold falls short, the batch searches for overdue holds of its resources, without locks. If it finds any, it
//! is rolled back and run again with those holds, and all their resources, in the lock set. If it finds none, the
//! hold is refused, and nothing is written for it (I12).

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    time::{Duration, Instant},
};

use super::{CommitMode, Executed, Guard, StoreError};
use crate::engine::{
    Accepted, Change, Changes, Command, EventType, IdempotencyKey, Outcome, Refusal, ResourceId, Timestamp,
    Token, Traced, WorkingSet, apply,
};

/// How many times a batch that loses to another process is attempted before that becomes an error.
const ATTEMPTS_MAX: u32 = 10;
/// For how long such a batch is attempted. If another writer holds a lock for longer, an error lets clients decide
/// for themselves.
const ATTEMPTS_FOR: Duration = Duration::from_secs(5);
/// How many overdue holds join the lock set in the first round; the number doubles with each round.
const OVERDUE_IN_FIRST_ROUND: u32 = 256;
/// How many times a batch is run again for more overdue holds. After the last round the lock set has up to 3,840 of
/// them.
const ROUNDS_MAX: u32 = 4;

/// The locks and reads of a batch. Back ends lock resources in id order, then reservations in token order.
#[derive(Debug)]
pub(super) struct LockPlan {
    /// The guard of the changes of resources.
    pub(super) guard: Guard,
    /// Resources that commands name.
    pub(super) resources: BTreeSet<ResourceId>,
    /// Reservations that commands name.
    pub(super) tokens: BTreeSet<Token>,
    /// Reservations whose resources must be locked too: those that commands give back, and overdue ones.
    pub(super) with_resources: BTreeSet<Token>,
    /// Idempotency keys to look up.
    pub(super) keys: BTreeSet<IdempotencyKey>,
    /// Overdue holds that may be expired on demand.
    pub(super) overdue: BTreeSet<Token>,
}

impl LockPlan {
    fn of(commands: &[Traced], guard: Guard) -> Self {
        let mut plan = Self {
            guard,
            resources: BTreeSet::new(),
            tokens: BTreeSet::new(),
            with_resources: BTreeSet::new(),
            keys: BTreeSet::new(),
            overdue: BTreeSet::new(),
        };
        for Traced { command, .. } in commands {
            match command {
                Command::Define(define) => {
                    plan.resources.insert(define.resource_id.clone());
                    // The outcome contains the resource as it is now, which only a row lock can tell.
                    plan.guard = Guard::RowLock;
                }
                Command::Reserve(reserve) => {
                    plan.resources.extend(reserve.items.iter().map(|item| item.resource_id.clone()));
                    plan.keys.insert(reserve.key.clone());
                }
                Command::Commit(_)
                | Command::Release(_)
                | Command::Extend(_)
                | Command::Cancel(_)
                | Command::Expire(_) => {
                    if let Some(token) = command.token() {
                        plan.tokens.insert(token);
                        if command.gives_back() {
                            plan.with_resources.insert(token);
                        }
                    }
                }
            }
        }
        plan
    }

    fn add_overdue(&mut self, tokens: impl IntoIterator<Item = Token>) {
        self.guard = Guard::RowLock;
        for token in tokens {
            self.tokens.insert(token);
            self.with_resources.insert(token);
            self.overdue.insert(token);
        }
    }
}

/// The stored holds of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldsOf {
    /// Whether any hold is overdue.
    pub(super) overdue: bool,
    /// When the first hold that is not overdue ends.
    pub(super) next_end: Option<Timestamp>,
}

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

    /// Finds stored overdue holds of resources, oldest first, without locks, at most `limit` for each resource.
    fn overdue(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Token>, StoreError>> + Send;

    /// Writes changes. Each changed record must still have the version that the change was decided on.
    fn write(&mut self, changes: Changes) -> impl Future<Output = Result<(), StoreError>> + Send;

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
    with_retries(|attempts| attempt(backend, commands, mode, guard(attempts))).await
}

/// Runs a whole transaction, and retries it, bounded and with jitter, if it lost to another process or its connection
/// broke. `transaction` receives the number of earlier attempts.
pub(super) async fn with_retries<T, Transaction>(
    transaction: impl Fn(u32) -> Transaction,
) -> Result<T, StoreError>
where
    Transaction: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        let failure = match transaction(attempts).await {
            Err(failure @ (StoreError::Contended { .. } | StoreError::Lost { .. })) => failure,
            result => return result,
        };
        attempts += 1;
        crate::telemetry::count_retry(failure.retry_cause());
        if attempts == ATTEMPTS_MAX || began.elapsed() >= ATTEMPTS_FOR {
            return Err(failure.after(attempts));
        }
        tokio::time::sleep(jittered(attempts)).await;
    }
}

/// A random wait whose upper bound doubles with each attempt: 0 to 2 ms after the first, 0 to 256 ms at most.
fn jittered(attempts: u32) -> Duration {
    Duration::from_micros(fastrand::u64(0..1_000 << attempts.min(8)))
}

async fn attempt<B: Backend>(
    backend: &B,
    commands: &[Traced],
    mode: CommitMode,
    guard: Guard,
) -> Result<Executed, StoreError> {
    let mut plan = LockPlan::of(commands, guard);
    let mut round = 0;
    let mut round_trips = 0;
    loop {
        let mut session = backend.begin().await?;
        match decide(&mut session, &plan, commands, round).await {
            Ok(BatchDecision::Apply(applied)) => {
                crate::failpoint::reach("batch.decided").await;
                let mut executed = finish(session, *applied, commands, mode).await?;
                executed.round_trips += round_trips;
                return Ok(executed);
            }
            Ok(again) => {
                round_trips += session.round_trips() + B::Session::ROUND_TRIPS_TO_END;
                session.rollback().await?;
                match again {
                    BatchDecision::WithOverdue(more) => {
                        plan.add_overdue(more);
                        round += 1;
                    }
                    _ => plan.guard = Guard::RowLock,
                }
            }
            Err(failure) => return Err(roll_back_after(session, failure).await),
        }
    }
}

/// The decision about a batch, from one read of the books.
enum BatchDecision {
    /// Write the changes.
    Apply(Box<AppliedBatch>),
    /// Run the batch again with these overdue holds in the lock set.
    WithOverdue(Vec<Token>),
    /// Run the batch again under row locks: a resource that fell short was read without a lock, and units may have
    /// been given back since.
    UnderLock,
}

async fn decide<S: Session>(
    session: &mut S,
    plan: &LockPlan,
    commands: &[Traced],
    round: u32,
) -> Result<BatchDecision, StoreError> {
    let read_at = Instant::now();
    let mut set = session.load(plan).await?;
    let now = session.now().await?;
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
    for Traced { command, trace } in commands {
        set.caused_by(*trace);
        outcomes.push(apply(&mut set, command, now));
    }
    if !set.short().is_empty() {
        if matches!(plan.guard, Guard::Conditional | Guard::Optimistic) {
            return Ok(BatchDecision::UnderLock);
        }
        let holds = session.holds_of(set.short(), now).await?;
        let limit = OVERDUE_IN_FIRST_ROUND << round;
        let more = more_overdue(session, plan, &holds, now, limit).await?;
        if !more.is_empty() && round < ROUNDS_MAX {
            return Ok(BatchDecision::WithOverdue(more));
        }
        let backlogged = if more.is_empty() { HashMap::new() } else { holds.clone() };
        refine_refusals(&mut outcomes, &set, &holds, &backlogged);
    }
    Ok(BatchDecision::Apply(Box::new(AppliedBatch { set, outcomes, read_at, now })))
}

/// Rolls back a transaction that lost to another writer, so that its connection can be reused and its locks are
/// released before the retry. After any other failure the connection is closed with the session.
async fn roll_back_after<S: Session>(session: S, failure: StoreError) -> StoreError {
    if matches!(failure, StoreError::Contended { .. }) {
        // If the rollback fails too, the connection is closed, which also undoes the transaction.
        let _ = session.rollback().await;
    }
    failure
}

/// Finds overdue holds of the resources that fell short which are not in the lock set yet.
async fn more_overdue<S: Session>(
    session: &mut S,
    plan: &LockPlan,
    holds: &HashMap<ResourceId, HoldsOf>,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Token>, StoreError> {
    let overdue: BTreeSet<ResourceId> =
        holds.iter().filter(|(_, holds)| holds.overdue).map(|(id, _)| id.clone()).collect();
    if overdue.is_empty() {
        return Ok(Vec::new());
    }
    let known = u32::try_from(plan.overdue.len()).unwrap_or(u32::MAX);
    let mut found = session.overdue(&overdue, now, known.saturating_add(limit)).await?;
    found.retain(|token| !plan.overdue.contains(token));
    Ok(found)
}

/// Completes refusals for want of stock: adds when the next hold ends, or turns a refusal into `Backlogged` if the
/// units exist behind more overdue holds than one transaction may expire. Such a resource must never be reported as
/// sold out.
fn refine_refusals(
    outcomes: &mut [Outcome],
    set: &WorkingSet,
    holds: &HashMap<ResourceId, HoldsOf>,
    backlogged: &HashMap<ResourceId, HoldsOf>,
) {
    let behind = |id: &ResourceId| backlogged.get(id).is_some_and(|holds| holds.overdue);
    let mut known: HashMap<ResourceId, Option<Timestamp>> = HashMap::new();
    for outcome in outcomes {
        match outcome {
            Err(Refusal::OutOfStock { resource_id, .. } | Refusal::StockInUse { resource_id, .. })
                if behind(resource_id) =>
            {
                *outcome = Err(Refusal::Backlogged { resource_id: resource_id.clone() });
            }
            Err(Refusal::OutOfStock { resource_id, next_release_at, .. }) => {
                *next_release_at = *known.entry(resource_id.clone()).or_insert_with(|| {
                    let stored = holds.get(resource_id).and_then(|holds| holds.next_end);
                    stored.into_iter().chain(set.next_release_of_new(resource_id)).min()
                });
            }
            _ => {}
        }
    }
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
    mode: CommitMode,
) -> Result<Executed, StoreError> {
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
        if let Err(failure) = session.write(changes).await {
            return Err(roll_back_after(session, failure).await);
        }
        let round_trips = session.round_trips();
        session.commit().await?;
        round_trips
    } + S::ROUND_TRIPS_TO_END;
    Ok(Executed { outcomes, expired_on_demand, events, round_trips, read_at, now, versions })
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
