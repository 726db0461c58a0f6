//! I1, I2, I12: no overselling, all or nothing, refusals are cheap.

use super::*;

/// I1: callers on two handles reserve, release and cancel units of one resource at once. No unit is sold twice, and
/// what is left at the end adds up.
pub async fn crowds_never_oversell(subject: &Subject) {
    const TOTAL: u64 = 60;
    subject.stock("seat", TOTAL).await;
    let mut tasks = Vec::new();
    for caller in 0..8_u64 {
        let store = if caller % 2 == 0 { subject.store.clone() } else { subject.other.clone() };
        tasks.push(tokio::spawn(async move {
            let mut kept = 0;
            for turn in 0..12_u64 {
                let units = 1 + (caller + turn) % 3;
                let outcome =
                    one(&store, Command::Reserve(reserve(&random_key(), &[("seat", units)], 60))).await;
                let Ok(Accepted::Reservation { reservation, .. }) = outcome else {
                    assert_eq!(slug(&outcome), "out-of-stock");
                    continue;
                };
                match turn % 3 {
                    0 => drop(accepted(one(&store, Command::Release(reservation.token)).await)),
                    1 => {
                        accepted(one(&store, Command::Commit(reservation.token)).await);
                        accepted(one(&store, Command::Cancel(reservation.token)).await);
                    }
                    _ => kept += units,
                }
            }
            kept
        }));
    }
    let mut kept = 0;
    for task in tasks {
        kept += task.await.expect("no panic");
    }
    assert!(kept <= TOTAL, "{kept} of {TOTAL} were sold");
    assert_eq!(subject.available("seat").await, TOTAL - kept);
    subject.assert_consistent().await;
}

/// I2: a reservation of which one item is short takes nothing of the others.
pub async fn all_or_nothing(subject: &Subject) {
    subject.stock("a", 5).await;
    subject.stock("b", 1).await;
    let refused = subject.one(Command::Reserve(reserve("k", &[("a", 2), ("b", 2)], 10))).await;
    assert_eq!(slug(&refused), "out-of-stock");
    assert_eq!((subject.available("a").await, subject.available("b").await), (5, 1));
    let unknown = subject.one(Command::Reserve(reserve("k", &[("a", 2), ("nowhere", 1)], 10))).await;
    assert_eq!(unknown, Err(Refusal::ResourceNotFound { resource_id: id("nowhere") }));
    let held = subject.held(&[("b", 1), ("a", 2), ("a", 1)]).await;
    assert_eq!((subject.available("a").await, subject.available("b").await), (2, 0));
    assert_eq!(
        subject.store.reservation(held.token).await.expect("read").map(|read| read.items),
        Some(held.items)
    );
    subject.assert_consistent().await;
}

/// I2: reservations of the same resources in different orders, at once, do not deadlock, and each is complete.
pub async fn overlapping_items_in_any_order_never_block(subject: &Subject) {
    let names = ["a", "b", "c", "d"];
    for name in names {
        subject.stock(name, 1_000).await;
    }
    let mut tasks = Vec::new();
    for caller in 0..6_usize {
        let store = if caller % 2 == 0 { subject.store.clone() } else { subject.other.clone() };
        tasks.push(tokio::spawn(async move {
            for turn in 0..10 {
                let first = names[(caller + turn) % 4];
                let second = names[(caller + 3 * turn + 1) % 4];
                let items = [(first, 1), (second, 1), (names[turn % 4], 1)];
                let (held, _) =
                    accepted(one(&store, Command::Reserve(reserve(&random_key(), &items, 60))).await);
                if turn % 2 == 0 {
                    accepted(one(&store, Command::Release(held.token)).await);
                }
            }
        }));
    }
    for task in tasks {
        let done = tokio::time::timeout(Duration::from_secs(60), task).await;
        done.expect("no deadlock").expect("no panic");
    }
    subject.assert_consistent().await;
}

/// I1: a total cannot be lowered below what is held and committed, but to exactly that.
pub async fn a_total_never_falls_below_the_units_in_use(subject: &Subject) {
    subject.stock("car", 5).await;
    subject.held(&[("car", 2)]).await;
    let committed = subject.held(&[("car", 1)]).await;
    accepted(subject.one(Command::Commit(committed.token)).await);
    let define = |total| Command::Define(Define { resource_id: id("car"), total, fulfilment: None });
    let refusal = Refusal::StockInUse { resource_id: id("car"), requested_total: 2, in_use: 3 };
    assert_eq!(subject.one(define(2)).await, Err(refusal));
    subject.one(define(3)).await.expect("just enough");
    assert_eq!(subject.available("car").await, 0);
    // Once the hold is overdue, its units are free.
    subject.pass(HELD).await;
    subject.one(define(1)).await.expect("the hold is overdue");
    assert_eq!(subject.available("car").await, 0);
    subject.assert_consistent().await;
}

/// I12: refusals of every kind change no row.
pub async fn refusals_write_nothing(subject: &Subject) {
    subject.stock("seat", 1).await;
    let held = subject.held(&[("seat", 1)]).await;
    let (resource, outbox) = (subject.resource("seat").await, subject.unpublished().await);
    let unknown = Token::from_uuid(Uuid::now_v7());
    let refused = [
        (Command::Reserve(reserve("another", &[("seat", 1)], 10)), "out-of-stock"),
        (Command::Reserve(reserve(held.key.as_str(), &[("seat", 2)], 10)), "idempotency-key-reused"),
        (Command::Reserve(reserve("another", &[("nowhere", 1)], 10)), "resource-not-found"),
        (Command::Cancel(held.token), "not-committed"),
        (Command::Expire(held.token), "not-due"),
        (Command::Commit(unknown), "reservation-not-found"),
        (Command::Define(Define { resource_id: id("seat"), total: 0, fulfilment: None }), "stock-in-use"),
    ];
    for (command, why) in &refused {
        assert_eq!(slug(&subject.one(command.clone()).await), *why, "{command:?}");
    }
    let batch: Vec<Command> = refused.into_iter().map(|(command, _)| command).collect();
    let executed = subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    assert_eq!((executed.events, executed.expired_on_demand), (0, 0));
    assert_eq!(subject.resource("seat").await, resource);
    assert_eq!(subject.unpublished().await, outbox);
    assert_eq!(subject.store.reservation(held.token).await.expect("read"), Some(held));
    // An overdue hold is not expired for a hold that would still be refused.
    subject.pass(HELD).await;
    let refusal = subject.one(Command::Reserve(reserve("another", &[("seat", 2)], 10))).await;
    assert_eq!(slug(&refusal), "out-of-stock");
    assert_eq!(subject.unpublished().await, outbox);
    subject.assert_consistent().await;
}

/// A refusal for want of stock names when the first hold of that resource ends, whether it was made in this batch or
/// before.
pub async fn a_refusal_names_the_next_release(subject: &Subject) {
    subject.stock("seat", 1).await;
    subject.stock("sold", 0).await;
    let take = reserve("first", &[("seat", 1)], 30);
    let want = |key: &str, name: &str| Command::Reserve(reserve(key, &[(name, 1)], 10));
    let batch = [Command::Reserve(take), want("second", "seat"), want("third", "sold")];
    let mut outcomes =
        subject.store.execute(&batch, CommitMode::Commit).await.expect("executed").outcomes.into_iter();
    let (held, _) = accepted(outcomes.next().expect("an outcome"));
    let ends = |outcome: Outcome| match outcome {
        Err(Refusal::OutOfStock { next_release_at, .. }) => next_release_at,
        other => panic!("{other:?}"),
    };
    assert_eq!(ends(outcomes.next().expect("an outcome")), Some(held.expires_at), "made in the same batch");
    assert_eq!(ends(outcomes.next().expect("an outcome")), None, "no unit of it is held");
    assert_eq!(ends(subject.one(want("second", "seat")).await), Some(held.expires_at), "made before");
    accepted(subject.one(Command::Commit(held.token)).await);
    assert_eq!(ends(subject.one(want("second", "seat")).await), None, "committed, so nothing will end");

    subject.stock("two", 2).await;
    accepted(subject.one(Command::Reserve(reserve("short", &[("two", 1)], 1))).await);
    let (long, _) = accepted(subject.one(Command::Reserve(reserve("long", &[("two", 1)], 60))).await);
    subject.pass(Duration::from_secs(1)).await;
    let both = Command::Reserve(reserve("both", &[("two", 2)], 10));
    assert_eq!(
        ends(subject.one(both).await),
        Some(long.expires_at),
        "an overdue hold is not worth waiting for"
    );
}

/// A dry run returns the outcomes, and changes nothing.
pub async fn a_dry_run_changes_nothing(subject: &Subject) {
    subject.stock("seat", 1).await;
    let before = subject.resource("seat").await;
    let define =
        |name: &str, total| Command::Define(Define { resource_id: id(name), total, fulfilment: None });
    let batch = [define("seat", 7), define("new", 1), Command::Reserve(reserve("k", &[("seat", 3)], 10))];
    let executed = subject.store.execute(&batch, CommitMode::DryRun).await.expect("executed");
    assert!(executed.outcomes.iter().all(Result::is_ok), "{:?}", executed.outcomes);
    assert_eq!(subject.resource("seat").await, before);
    assert_eq!(subject.store.resource(&id("new")).await.expect("read"), None);
    assert_eq!(subject.unpublished().await, 0);
}
