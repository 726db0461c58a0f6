//! Commit, release and expire race on one token a thousand times, batched in lanes and in separate transactions.

use std::{sync::Arc, time::Duration};

use bespeak::{
    dispatch::{Dispatch, Plan},
    engine::{
        Accepted, Change, Command, Define, IdempotencyKey, Item, Items, Limits, Quantity, ReserveDraft,
        ResourceId, Token,
    },
    store::{FixedClock, Guard, Store},
};
use bespeak_tests::{Books, each_store};
use uuid::Uuid;

const ROUNDS: usize = 1_000;
const HEAD_START: Duration = Duration::from_millis(20);

each_store!(lanes_has_one_winner, pessimistic_has_one_winner);

async fn lanes_has_one_winner(books: Books) {
    let lanes = if books.is_file() { 1 } else { 8 };
    race(books, Plan::Lanes { lanes, batch: 64 }, Guard::RowLock).await;
}

async fn pessimistic_has_one_winner(books: Books) {
    race(books, Plan::Unbatched { at_once: 4 }, Guard::RowLock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditional_has_one_winner() {
    race(Books::mysql().await, Plan::Unbatched { at_once: 4 }, Guard::Conditional).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn optimistic_has_one_winner() {
    race(Books::mysql().await, Plan::Unbatched { at_once: 4 }, Guard::Optimistic).await;
}

async fn race(books: Books, plan: Plan, guard: Guard) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let store: Arc<dyn Store> = books.open(Some(&clock), guard).await;
    store.migrate().await.expect("migrated");
    let dispatch = Arc::new(Dispatch::start(store.clone(), plan, 1_000));
    let id = ResourceId::new("id", "seat").expect("valid");
    let define = Define { resource_id: id.clone(), total: 1, fulfilment: None };
    dispatch.submit(Command::Define(define)).await.expect("answered").expect("defined");

    let mut ends = [0_usize; 3];
    for round in 0..ROUNDS {
        let token = hold(&dispatch, &id, round).await;
        // The clock passes the end of the hold during the race. Starts are random, because a release reaches its lane
        // later than a commit. On a busy machine a release would never win, so now and then the others give it a head
        // start.
        let head_start = if round % 16 == 0 { HEAD_START } else { Duration::ZERO };
        let mut tasks = Vec::new();
        for (racer, command) in
            [Command::Commit(token), Command::Release(token), Command::Expire(token)].into_iter().enumerate()
        {
            let dispatch = dispatch.clone();
            let behind = if matches!(command, Command::Release(_)) { Duration::ZERO } else { head_start };
            let race = async move {
                tokio::time::sleep(behind + Duration::from_micros(fastrand::u64(0..2_000))).await;
                dispatch.submit(command).await.expect("answered")
            };
            tasks.push((racer, tokio::spawn(race)));
        }
        tokio::time::sleep(head_start + Duration::from_micros(fastrand::u64(0..2_000))).await;
        clock.advance(Duration::from_secs(1));
        let mut winners = Vec::new();
        for (racer, task) in tasks {
            if let Ok(Accepted::Reservation { change: Change::Changed, .. }) = task.await.expect("no panic") {
                winners.push(racer);
            }
        }
        clock.advance(Duration::from_secs(1));
        // If commit and release were too late and expire was too early, the hold is overdue now.
        if winners.is_empty() {
            dispatch.submit(Command::Expire(token)).await.expect("answered").expect("overdue");
            winners.push(2);
        }
        assert_eq!(winners.len(), 1, "round {round}");
        ends[winners[0]] += 1;
        if winners[0] == 0 {
            dispatch.submit(Command::Cancel(token)).await.expect("answered").expect("committed before");
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "each must win sometimes: {ends:?}");
    dispatch.stop().await;
    assert_eq!(store.resource(&id).await.expect("read").expect("known").available, 1);
    books.assert_consistent().await;
}

async fn hold(dispatch: &Dispatch, id: &ResourceId, round: usize) -> Token {
    let limits = Limits::default();
    let item = Item { resource_id: id.clone(), quantity: Quantity::new("quantity", 1).expect("valid") };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits).expect("valid"),
        ttl: limits.ttl("ttl", Some(1)).expect("valid"),
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(&format!("round-{round}")).expect("valid"),
    };
    let token = Token::from_uuid(Uuid::now_v7());
    dispatch
        .submit(Command::Reserve(draft.with_token(token)))
        .await
        .expect("answered")
        .expect("one unit is free");
    token
}
