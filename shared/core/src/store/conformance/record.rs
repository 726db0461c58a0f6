//! I4, I7: an acknowledged change is there as it was made, with its events.

use super::*;
use crate::{
    engine::{Fulfilment, Holder, Metadata},
    store::Page,
};

/// Every field of a reservation and of a resource survives being written and read.
pub async fn reservations_are_read_as_written(subject: &Subject) {
    let define = Define {
        resource_id: id("hotel/2026-12-24/room:7"),
        total: crate::engine::TOTAL_MAX,
        fulfilment: Some(Fulfilment::SmartKey),
    };
    let Ok(Accepted::Resource { resource, .. }) = subject.one(Command::Define(define)).await else {
        panic!("defined")
    };
    assert_eq!(subject.resource("hotel/2026-12-24/room:7").await, resource);
    assert_eq!(resource.fulfilment, Fulfilment::SmartKey);
    subject.stock("b", 5).await;

    let metadata =
        serde_json::json!({"quote": "\"'\\", "null": null, "deep": [{"ü": "\u{1F3AB}\u{0}"}], "n": 1.5e300});
    let mut command = reserve("k \" '", &[("b", 2), ("hotel/2026-12-24/room:7", 1)], 77);
    command.holder = Some(Holder::new("O'Neill \"ö\" 東京").expect("valid"));
    let metadata = serde_json::value::to_raw_value(&metadata).expect("JSON");
    command.metadata = Some(Arc::new(Metadata::new(&metadata, &Limits::default()).expect("valid")));
    let (made, _) = accepted(subject.one(Command::Reserve(command)).await);
    assert_eq!(subject.store.reservation(made.token).await.expect("read"), Some(made.clone()));
    assert_eq!(subject.store.reservation(Token::from_uuid(Uuid::now_v7())).await.expect("read"), None);
    assert_eq!(subject.store.resource(&id("B")).await.expect("read"), None, "ids are compared byte by byte");
    let (committed, _) = accepted(subject.one(Command::Commit(made.token)).await);
    assert_eq!(subject.store.reservation(made.token).await.expect("read"), Some(committed.clone()));
    assert_eq!((committed.version, committed.metadata, committed.holder), (2, made.metadata, made.holder));
    subject.assert_consistent().await;
}

/// I4: once a command has its outcome, every other process sees the change.
pub async fn acknowledged_holds_are_visible_to_other_processes(subject: &Subject) {
    subject.stock("seat", 100).await;
    for _ in 0..20 {
        let held = subject.held(&[("seat", 1)]).await;
        assert_eq!(subject.other.reservation(held.token).await.expect("read"), Some(held.clone()));
        let committed = accepted(one(&subject.other, Command::Commit(held.token)).await).0;
        assert_eq!(subject.store.reservation(held.token).await.expect("read"), Some(committed));
    }
    let seen = subject.other.resource(&id("seat")).await.expect("read").expect("known");
    assert_eq!(seen.available, 80);
}

/// I7: each change has its event, in its own transaction; a command that changes nothing has none.
pub async fn every_change_has_its_event(subject: &Subject) {
    let events = || subject.unpublished();
    subject.stock("seat", 1).await;
    assert_eq!(events().await, 0, "defining a resource writes no event");
    let held = subject.held(&[("seat", 1)]).await;
    assert_eq!(events().await, 2, "held, depleted");
    accepted(subject.one(Command::Commit(held.token)).await);
    accepted(subject.one(Command::Commit(held.token)).await);
    assert_eq!(events().await, 3, "committed, once");
    accepted(subject.one(Command::Cancel(held.token)).await);
    assert_eq!(events().await, 5, "cancelled, restored");
    let define = |total| Command::Define(Define { resource_id: id("seat"), total, fulfilment: None });
    subject.one(define(0)).await.expect("nothing is taken");
    subject.one(define(3)).await.expect("more");
    assert_eq!(events().await, 7, "depleted and restored by hand");
    let held = subject.held(&[("seat", 3)]).await;
    accepted(subject.one(Command::Release(held.token)).await);
    assert_eq!(events().await, 11, "held, depleted, released, restored");
    let held = subject.held(&[("seat", 1)]).await;
    subject.pass(HELD).await;
    accepted(subject.one(Command::Expire(held.token)).await);
    assert_eq!(events().await, 13, "held, expired");
    subject.assert_consistent().await;
}

/// A batch of hundreds of commands of every kind is one transaction: outcomes are in order, and each command sees the
/// earlier ones.
pub async fn a_large_mixed_batch_is_executed_in_order(subject: &Subject) {
    let mut batch = Vec::new();
    for n in 0..50_u64 {
        let name = format!("r{n}");
        batch.push(Command::Define(Define { resource_id: id(&name), total: 4, fulfilment: None }));
        let kept = reserve(&format!("{n}-kept"), &[(&name, 1), ("r0", 1)], 10);
        let committed = reserve(&format!("{n}-committed"), &[(&name, 1)], 10);
        let released = reserve(&format!("{n}-released"), &[(&name, 1)], 10);
        let (first, second) = (committed.token, released.token);
        for command in [kept, committed, released] {
            batch.push(Command::Reserve(command));
        }
        batch.extend([
            Command::Commit(first),
            Command::Release(second),
            Command::Cancel(first),
            Command::Commit(second),
        ]);
    }
    let executed = subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    assert_eq!(executed.outcomes.len(), batch.len());
    for (n, outcomes) in executed.outcomes.chunks(8).enumerate() {
        let slugs: Vec<_> = outcomes.iter().map(slug).collect();
        // r0 has four units; its own round needs two of them at once.
        let kept = if n < 3 { "accepted" } else { "out-of-stock" };
        assert_eq!(
            slugs,
            [
                "accepted",
                kept,
                "accepted",
                "accepted",
                "accepted",
                "accepted",
                "accepted",
                "already-released"
            ],
            "{n}"
        );
    }
    subject.assert_consistent().await;
    let again = subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    let of_retries: Vec<_> = again.outcomes[1..4].iter().map(slug).collect();
    assert_eq!(
        of_retries,
        ["accepted", "reservation-ended", "reservation-ended"],
        "held, cancelled, released"
    );
    subject.assert_consistent().await;
}

/// Pages are in id order, complete, and without repetition.
pub async fn resources_are_paged_in_order(subject: &Subject) {
    for n in 0..25 {
        subject.stock(&format!("r{n:02}"), n).await;
    }
    let mut seen: Vec<Resource> = Vec::new();
    loop {
        let after = seen.last().map(|last| last.id.clone());
        let page = subject.store.resources(&Page { after, limit: 10 }).await.expect("read");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 10);
        seen.extend(page);
    }
    let ids: Vec<_> = seen.iter().map(|resource| resource.id.to_string()).collect();
    assert_eq!(ids, (0..25).map(|n| format!("r{n:02}")).collect::<Vec<_>>());
}
