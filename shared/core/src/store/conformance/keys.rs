//! I5: retries are idempotent.

use super::*;

/// I5: the same key and body finds its reservation whatever its status, also if the stock has sold out since.
pub async fn a_retry_finds_its_reservation(subject: &Subject) {
    subject.stock("seat", 1).await;
    let (made, change) = accepted(subject.one(Command::Reserve(reserve("k", &[("seat", 1)], 10))).await);
    assert_eq!(change, Change::Changed);
    let retry = |handle: &Arc<dyn Database>| {
        let handle = handle.clone();
        async move { accepted(one(&handle, Command::Reserve(reserve("k", &[("seat", 1)], 10))).await) }
    };
    assert_eq!(retry(&subject.store).await, (made.clone(), Change::Replayed), "sold out, and found");
    assert_eq!(retry(&subject.other).await, (made.clone(), Change::Replayed), "from another process");
    let (committed, _) = accepted(subject.one(Command::Commit(made.token)).await);
    assert_eq!(retry(&subject.store).await, (committed, Change::Replayed), "as it is now");
    subject.assert_consistent().await;
}

/// I5: a retry whose reservation has ended is refused with that reservation, and makes no other one.
pub async fn a_retry_of_an_ended_reservation_is_refused(subject: &Subject) {
    subject.stock("seat", 1).await;
    for end in [Status::Released, Status::Cancelled, Status::Expired] {
        let request = || Command::Reserve(reserve(end.as_str(), &[("seat", 1)], HELD.as_secs()));
        let (made, _) = accepted(subject.one(request()).await);
        match end {
            Status::Released => _ = accepted(subject.one(Command::Release(made.token)).await),
            Status::Cancelled => {
                accepted(subject.one(Command::Commit(made.token)).await);
                accepted(subject.one(Command::Cancel(made.token)).await);
            }
            // No command expires it: the retry itself must notice that the hold is overdue.
            _ => subject.pass(HELD).await,
        }
        for handle in [&subject.store, &subject.other] {
            match one(handle, request()).await {
                Err(Refusal::ReservationEnded { reservation }) => {
                    assert_eq!((reservation.token, reservation.status), (made.token, end));
                }
                other => panic!("{end}: {other:?}"),
            }
        }
        assert_eq!(subject.available("seat").await, 1, "a retry takes no stock");
    }
    subject.assert_consistent().await;
}

/// I5: the same key with another body is refused. A refusal is not remembered, so its key may be used again.
pub async fn a_key_is_one_request(subject: &Subject) {
    subject.stock("seat", 2).await;
    let early = subject.one(Command::Reserve(reserve("k", &[("seat", 3)], 10))).await;
    assert_eq!(slug(&early), "out-of-stock");
    accepted(subject.one(Command::Reserve(reserve("k", &[("seat", 2)], 10))).await);
    for (items, ttl) in
        [(vec![("seat", 1)], 10), (vec![("seat", 2)], 11), (vec![("seat", 2), ("other", 1)], 10)]
    {
        let outcome = subject.one(Command::Reserve(reserve("k", &items, ttl))).await;
        assert_eq!(outcome, Err(Refusal::KeyReused), "{items:?} {ttl}");
    }
    subject.assert_consistent().await;
}

/// I5: many requests with one key at once, through two handles, in batches and alone, make one reservation.
pub async fn concurrent_uses_of_one_key_make_one_reservation(subject: &Subject) {
    subject.stock("seat", 50).await;
    let mut tasks = Vec::new();
    for caller in 0..10 {
        let store = if caller % 2 == 0 { subject.store.clone() } else { subject.other.clone() };
        tasks.push(tokio::spawn(async move {
            let batch: Vec<Command> =
                (0..=caller).map(|_| Command::Reserve(reserve("k", &[("seat", 1)], 10))).collect();
            let executed = store.execute(&batch, CommitMode::Commit).await.expect("executed");
            executed.outcomes.into_iter().map(|outcome| accepted(outcome).0.token).collect::<Vec<_>>()
        }));
    }
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.extend(task.await.expect("no panic"));
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "one key, one reservation");
    assert_eq!(subject.available("seat").await, 49);
    subject.assert_consistent().await;
}

/// I5: `k`, `k ` and `K` are three keys.
pub async fn a_key_is_compared_byte_by_byte(subject: &Subject) {
    subject.stock("seat", 9).await;
    let long = "k".repeat(IdempotencyKey::LENGTH_MAX);
    let keys = ["k", "k ", "K", " k", "\"k\"", "k'; SHUTDOWN; --", &long];
    for key in keys {
        let (_, change) = accepted(subject.one(Command::Reserve(reserve(key, &[("seat", 1)], 10))).await);
        assert_eq!(change, Change::Changed, "{key:?}");
    }
    let again: Vec<Command> =
        keys.iter().map(|key| Command::Reserve(reserve(key, &[("seat", 1)], 10))).collect();
    for outcome in subject.store.execute(&again, CommitMode::Commit).await.expect("executed").outcomes {
        assert_eq!(accepted(outcome).1, Change::Replayed);
    }
    subject.assert_consistent().await;
}
