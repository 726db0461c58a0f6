//! Whatever happens to a batch, every caller receives its own outcome or an error. The store here is a fake that
//! fails on demand, in ways that a real store cannot be made to fail.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::store::Executed;
use crate::{
    engine::{IdempotencyKey, Refusal, Reservation, Resource, ResourceId, Timestamp, Token},
    store::{Audit, Due, Page, Purged},
};

/// Returns an outcome that contains the number of each command's token; waits for `gate`; misbehaves for chosen
/// tokens.
struct Fake {
    gate: Semaphore,
    batches: Mutex<Vec<usize>>,
    poison: Option<Token>,
    panics: bool,
    outage: bool,
    started: AtomicUsize,
}

impl Fake {
    fn new() -> Self {
        Self {
            gate: Semaphore::new(1 << 20),
            batches: Mutex::default(),
            poison: None,
            panics: false,
            outage: false,
            started: AtomicUsize::new(0),
        }
    }

    fn closed() -> Self {
        Self { gate: Semaphore::new(0), ..Self::new() }
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().expect("no panic under the lock").clone()
    }
}

/// A refusal that identifies the token of its command.
fn own(token: Token) -> Outcome {
    let micros = i64::try_from(token.uuid().as_u128()).expect("small");
    Err(Refusal::HoldExpired { expired_at: jiff::Timestamp::from_microsecond(micros).expect("small") })
}

fn token(n: usize) -> Token {
    Token::from_uuid(Uuid::from_u128(n as u128 + 1))
}

#[async_trait]
impl Store for Fake {
    async fn execute_traced(&self, commands: &[Traced], _: CommitMode) -> Result<Executed, StoreError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("open").forget();
        self.batches.lock().expect("no panic under the lock").push(commands.len());
        if self.outage {
            return Err(StoreError::Unavailable { reason: "away", source: "away".into() });
        }
        if commands.iter().any(|traced| traced.command.token() == self.poison) {
            assert!(!self.panics, "a defect in the store");
            return Err(StoreError::Statement { source: "poison".into() });
        }
        let outcomes = commands.iter().map(|traced| own(traced.command.token().expect("a token"))).collect();
        Ok(Executed {
            outcomes,
            expired_on_demand: 0,
            events: 0,
            round_trips: 0,
            read_at: std::time::Instant::now(),
            now: jiff::Timestamp::UNIX_EPOCH,
            versions: Vec::new(),
        })
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn resource(&self, _: &ResourceId) -> Result<Option<Resource>, StoreError> {
        unreachable!()
    }
    async fn resources(&self, _: &Page) -> Result<Vec<Resource>, StoreError> {
        unreachable!()
    }
    async fn reservation(&self, _: Token) -> Result<Option<Reservation>, StoreError> {
        unreachable!()
    }
    async fn by_keys(&self, _: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
        unreachable!()
    }
    async fn first_resources(&self, _: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError> {
        Ok(HashMap::new())
    }
    async fn due(&self, _: u32) -> Result<Due, StoreError> {
        unreachable!()
    }
    async fn purge_events(&self, _: Duration, _: u32) -> Result<Purged, StoreError> {
        unreachable!()
    }
    async fn purge_reservations(&self, _: Duration, _: Option<Token>, _: u32) -> Result<Purged, StoreError> {
        unreachable!()
    }
    async fn audit(&self) -> Result<Audit, StoreError> {
        unreachable!()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn close(&self) {}
}

const LANES: Plan = Plan::Lanes { lanes: 1, batch: 64 };

fn start(fake: Fake, plan: Plan, queue: usize) -> (Arc<Fake>, Arc<Dispatch>) {
    let fake = Arc::new(fake);
    let store: Arc<dyn Store> = fake.clone();
    (fake, Arc::new(Dispatch::start(store, plan, queue)))
}

fn submit(dispatch: &Arc<Dispatch>, n: usize) -> tokio::task::JoinHandle<Result<Outcome, DispatchError>> {
    let dispatch = dispatch.clone();
    tokio::spawn(async move { dispatch.submit(Command::Commit(token(n))).await })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

/// Submits one command that occupies the lane, then the others, which wait and become one batch.
async fn as_one_batch(
    fake: &Arc<Fake>,
    dispatch: &Arc<Dispatch>,
    commands: usize,
) -> Vec<Result<Outcome, DispatchError>> {
    let first = submit(dispatch, 1_000);
    until("the first batch", || fake.started.load(Ordering::SeqCst) == 1).await;
    let tasks: Vec<_> = (0..commands).map(|n| submit(dispatch, n)).collect();
    // Each task queues its command before its first await, so these turns are enough for all of them.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    fake.gate.add_permits(1 << 20);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no panic reaches a caller"));
    }
    first.await.expect("no panic reaches a caller").expect("answered").expect_err("its own");
    outcomes
}

#[tokio::test]
async fn waiting_commands_share_a_transaction_and_each_gets_its_own_outcome() {
    let (fake, dispatch) = start(Fake::closed(), LANES, 1_000);
    let outcomes = as_one_batch(&fake, &dispatch, 50).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.expect("answered"), own(token(n)), "caller {n}");
    }
    assert_eq!(fake.batches(), [1, 50]);
}

#[tokio::test]
async fn a_command_that_makes_a_batch_fail_fails_alone() {
    for panics in [false, true] {
        let (fake, dispatch) = start(Fake { poison: Some(token(7)), panics, ..Fake::closed() }, LANES, 1_000);
        let outcomes = as_one_batch(&fake, &dispatch, 20).await;
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(outcome) => assert_eq!((outcome, n == 7), (own(token(n)), false), "caller {n}"),
                Err(_) => assert_eq!(n, 7, "the failure of another command"),
            }
        }
    }
}

#[tokio::test]
async fn an_outage_fails_all_waiting_commands_at_once() {
    let (fake, dispatch) = start(Fake { outage: true, ..Fake::new() }, LANES, 1_000);
    let tasks: Vec<_> = (0..30).map(|n| submit(&dispatch, n)).collect();
    for task in tasks {
        let error = task.await.expect("no panic").expect_err("an outage");
        assert!(matches!(error, DispatchError::Store(error) if error.is_outage()));
    }
    assert!(fake.batches().len() <= 30, "commands are not retried one by one");
}

#[tokio::test]
async fn a_full_queue_refuses_and_loses_nothing() {
    for plan in [LANES, Plan::Unbatched { at_once: 16 }] {
        let (fake, dispatch) = start(Fake::closed(), plan, 4);
        let tasks: Vec<_> = (0..20).map(|n| submit(&dispatch, n)).collect();
        until("the store to be reached", || fake.started.load(Ordering::SeqCst) > 0).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        fake.gate.add_permits(1 << 20);
        let mut full = 0;
        for (n, task) in tasks.into_iter().enumerate() {
            match task.await.expect("no panic") {
                Ok(outcome) => assert_eq!(outcome, own(token(n))),
                Err(DispatchError::Full) => full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!((11..=16).contains(&full), "{full} of 20 found the queue full under {plan:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_own_command_and_nothing_else() {
    let (fake, dispatch) = start(Fake::closed(), LANES, 1_000);
    let first = submit(&dispatch, 0);
    until("the first batch", || fake.started.load(Ordering::SeqCst) == 1).await;
    let (gone, stays) = (submit(&dispatch, 1), submit(&dispatch, 2));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    // The transaction of the first command is in flight; its caller goes away as well.
    first.abort();
    let _ = gone.await;
    fake.gate.add_permits(1 << 20);
    assert_eq!(stays.await.expect("no panic").expect("answered"), own(token(2)));
    assert_eq!(
        fake.batches(),
        [1, 1],
        "the transaction in flight was finished, and the command that had not begun was dropped"
    );
}

#[tokio::test]
async fn stopping_finishes_accepted_commands_and_refuses_later_ones() {
    for plan in [LANES, Plan::Unbatched { at_once: 16 }] {
        let (fake, dispatch) = start(Fake::closed(), plan, 1_000);
        let tasks: Vec<_> = (0..10).map(|n| submit(&dispatch, n)).collect();
        until("the store to be reached", || fake.started.load(Ordering::SeqCst) > 0).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let stopping = tokio::spawn({
            let dispatch = dispatch.clone();
            async move { dispatch.stop().await }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let late = dispatch.submit(Command::Commit(token(99))).await;
        assert!(matches!(late, Err(DispatchError::Stopping)), "{late:?}");
        fake.gate.add_permits(1 << 20);
        stopping.await.expect("no panic");
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.expect("no panic").expect("accepted before"), own(token(n)));
        }
    }
}

/// An import whose caller goes away keeps its place until its transaction has ended, so clients that hang up cannot
/// start more transactions than there are places.
#[tokio::test]
async fn imports_whose_callers_go_away_are_bounded() {
    let (fake, dispatch) = start(Fake::closed(), LANES, 1_000);
    let import = |n: usize| {
        let dispatch = dispatch.clone();
        tokio::spawn(async move {
            let place = dispatch.import_place()?;
            dispatch.submit_batch(&place, vec![Command::Commit(token(n))], CommitMode::Commit).await
        })
    };
    for n in 0..IMPORTS_MAX {
        let caller = import(n);
        until("the transaction begins", || fake.started.load(Ordering::SeqCst) == n + 1).await;
        caller.abort();
        let _ = caller.await;
    }
    let refused = tokio::time::timeout(Duration::from_secs(10), import(IMPORTS_MAX)).await;
    let refused = refused.expect("it is refused at once").expect("no panic");
    assert!(matches!(refused, Err(DispatchError::Full)), "{refused:?}");
    assert_eq!(fake.started.load(Ordering::SeqCst), IMPORTS_MAX);
    // When the transactions end, the places are free again
    fake.gate.add_permits(1 << 20);
    until("a place is free", || dispatch.imports.available_permits() == IMPORTS_MAX).await;
    let outcomes = import(99).await.expect("no panic").expect("a place is free");
    assert_eq!(outcomes, [own(token(99))]);
}
