//! The one way in which every back end runs a batch: begin, lock and load, read the clock, apply, write, commit.
//!
//! A hold that falls short looks for overdue holds of its resources, unlocked. Where there are any, the batch is
//! rolled back and run again with them, and all their resources, in the lock set; where there are none, it is refused,
//! and nothing is written for it (I12).

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

/// How often a batch that lost to another process is run before that is an error.
const ATTEMPTS_MAX: u32 = 10;
/// For how long: a lock that somebody holds for longer is worth an answer, so that clients can decide for themselves.
const ATTEMPTS_FOR: Duration = Duration::from_secs(5);
/// How many overdue holds join the lock set in the first round; twice as many in each that follows.
const OVERDUE_IN_FIRST_ROUND: u32 = 256;
/// How often a batch is run again for more overdue holds: with 3,840 of them in the end.
const ROUNDS_MAX: u32 = 4;

/// What a batch must lock and read. Back ends lock resources in id order, then reservations in token order.
#[derive(Debug)]
pub(super) struct LockPlan {
    /// What the changes of resources are guarded by.
    pub(super) guard: Guard,
    /// Resources that commands name.
    pub(super) resources: BTreeSet<ResourceId>,
    /// Reservations that commands name.
    pub(super) tokens: BTreeSet<Token>,
    /// Reservations whose resources must be locked too: those that commands give back, and overdue ones.
    pub(super) with_resources: BTreeSet<Token>,
    /// Keys to look up.
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
                    // Its answer tells what the resource is now.
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

/// The holds of a resource, as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldsOf {
    /// Whether any is overdue.
    pub(super) overdue: bool,
    /// When the first that is not overdue ends.
    pub(super) next_end: Option<Timestamp>,
}

/// One open transaction of a back end. Dropped without [`Session::commit`], it must roll back.
pub(super) trait Session: Send + Sized {
    /// Locks and reads what the plan names, into a working set.
    fn load(&mut self, plan: &LockPlan) -> impl Future<Output = Result<WorkingSet, StoreError>> + Send;

    /// Reads the clock, in a statement of its own after the last lock: a clock read with a locking statement is as
    /// stale as that statement waited.
    fn now(&mut self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// What the holds of each resource have to give, as stored; without locks.
    fn holds_of(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
    ) -> impl Future<Output = Result<HashMap<ResourceId, HoldsOf>, StoreError>> + Send;

    /// Overdue holds of resources, as stored, oldest first, without locks, at most `limit` of each resource.
    fn overdue(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Token>, StoreError>> + Send;

    /// Writes changes. Each must find the version that it was decided on.
    fn write(&mut self, changes: Changes) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How often the database was asked so far.
    fn round_trips(&self) -> u32 {
        0
    }

    /// How often it will be asked to commit or to roll back.
    const ROUND_TRIPS_TO_END: u32 = 0;

    /// Makes it last.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Undoes it.
    fn rollback(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A back end that opens transactions.
pub(super) trait Backend: Sync {
    /// Its transactions.
    type Session: Session;

    /// What its transactions are guarded by.
    fn guard(&self) -> Guard {
        Guard::RowLock
    }

    /// Opens one that may write.
    fn begin(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;
}

/// Runs a batch; whole again, bounded and jittered, where it lost to another process or its connection broke. The tokens
/// and keys are those of the first attempt, so an attempt whose COMMIT arrived unseen is found by the next.
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

/// Runs a transaction; whole again, bounded and jittered, where it lost to another process or its connection broke. It is
/// told how often it was tried before.
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
            settled => return settled,
        };
        attempts += 1;
        crate::telemetry::count_retry(failure.retry_cause());
        if attempts == ATTEMPTS_MAX || began.elapsed() >= ATTEMPTS_FOR {
            return Err(failure.after(attempts));
        }
        tokio::time::sleep(jittered(attempts)).await;
    }
}

/// A random wait that doubles with each attempt: 0 to 2 ms after the first, 0 to 256 ms at the most.
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
            Ok(Decided::Apply(applied)) => {
                crate::failpoint::reach("batch.decided").await;
                let mut executed = finish(session, *applied, commands, mode).await?;
                executed.round_trips += round_trips;
                return Ok(executed);
            }
            Ok(again) => {
                round_trips += session.round_trips() + B::Session::ROUND_TRIPS_TO_END;
                session.rollback().await?;
                match again {
                    Decided::WithOverdue(more) => {
                        plan.add_overdue(more);
                        round += 1;
                    }
                    _ => plan.guard = Guard::RowLock,
                }
            }
            Err(failure) => return Err(undone(session, failure).await),
        }
    }
}

/// What a look at the books came to.
enum Decided {
    /// Write it.
    Apply(Box<AppliedBatch>),
    /// Run it again with these overdue holds in the lock set.
    WithOverdue(Vec<Token>),
    /// Run it again under row locks: what is short was read without one, and may have been given back meanwhile.
    UnderLock,
}

async fn decide<S: Session>(
    session: &mut S,
    plan: &LockPlan,
    commands: &[Traced],
    round: u32,
) -> Result<Decided, StoreError> {
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
            return Ok(Decided::UnderLock);
        }
        let holds = session.holds_of(set.short(), now).await?;
        let limit = OVERDUE_IN_FIRST_ROUND << round;
        let more = more_overdue(session, plan, &holds, now, limit).await?;
        if !more.is_empty() && round < ROUNDS_MAX {
            return Ok(Decided::WithOverdue(more));
        }
        let backlogged = if more.is_empty() { HashMap::new() } else { holds.clone() };
        explain(&mut outcomes, &set, &holds, &backlogged);
    }
    Ok(Decided::Apply(Box::new(AppliedBatch { set, outcomes, read_at, now })))
}

/// Ends a transaction that lost to another writer, so that its connection can be used again and its locks are gone before
/// the batch comes back; any other failure closes the connection with the session.
async fn undone<S: Session>(session: S, failure: StoreError) -> StoreError {
    if matches!(failure, StoreError::Contended { .. }) {
        // Where even that fails, the connection is closed, which undoes as well.
        let _ = session.rollback().await;
    }
    failure
}

/// Overdue holds of the resources that fell short which are not in the lock set yet.
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

/// Tells those who were refused for want of stock when the next hold ends; and those whose units are there, behind more
/// overdue holds than one transaction may expire, that this is so: they must never be told that it is sold out.
fn explain(
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

/// What a batch came to, before it is written.
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
            return Err(undone(session, failure).await);
        }
        let round_trips = session.round_trips();
        session.commit().await?;
        round_trips
    } + S::ROUND_TRIPS_TO_END;
    Ok(Executed { outcomes, expired_on_demand, events, round_trips, read_at, now, versions })
}

/// The versions of those resources that some outcome found short or may have given units of.
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
