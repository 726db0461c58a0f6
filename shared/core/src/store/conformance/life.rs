//! I3, I6: one winner, and a hold ends on time.

use super::*;
use crate::engine::{Extend, Status};

/// I3: commit, release and expire race on one hold, through two handles, while it is about to expire: exactly one
/// takes effect, and the others learn which.
pub async fn one_of_commit_release_and_expire_wins(subject: &Subject) {
    subject.stock("seat", 1).await;
    for round in 0..15 {
        let (held, _) =
            accepted(subject.one(Command::Reserve(reserve(&random_key(), &[("seat", 1)], 1))).await);
        // In every third round the hold is overdue when the racers start.
        if round % 3 == 0 && subject.clock.is_some() {
            subject.pass(Duration::from_secs(1)).await;
        }
        let racers = [
            (subject.store.clone(), Command::Commit(held.token)),
            (subject.other.clone(), Command::Release(held.token)),
            (subject.store.clone(), Command::Expire(held.token)),
            (subject.other.clone(), Command::Commit(held.token)),
        ];
        let tasks = racers.map(|(store, command)| tokio::spawn(async move { one(&store, command).await }));
        let mut winners = 0;
        for task in tasks {
            let outcome = task.await.expect("no panic");
            winners +=
                usize::from(matches!(outcome, Ok(Accepted::Reservation { change: Change::Changed, .. })));
        }
        assert_eq!(winners, 1, "round {round}");
        let end = subject.store.reservation(held.token).await.expect("read").expect("known");
        assert_ne!(end.status, Status::Held);
        if end.status == Status::Committed {
            accepted(subject.one(Command::Cancel(held.token)).await);
        }
        assert_eq!(subject.available("seat").await, 1, "round {round}: the unit came back once");
    }
    subject.assert_consistent().await;
}

/// I3: a command that arrives after the end learns how the hold ended, and a repeated command gets the same answer
/// without another write.
pub async fn later_commands_get_how_the_reservation_ended(subject: &Subject) {
    subject.stock("seat", 4).await;
    let outcomes_of = |token| {
        let commands = [
            Command::Commit(token),
            Command::Release(token),
            Command::Cancel(token),
            extend(token, 60),
            Command::Expire(token),
        ];
        async move {
            let mut slugs = Vec::new();
            for command in commands {
                slugs.push(slug(&subject.one(command).await));
            }
            slugs
        }
    };
    let [committed, released, cancelled, expired] = [
        subject.held(&[("seat", 1)]).await,
        subject.held(&[("seat", 1)]).await,
        subject.held(&[("seat", 1)]).await,
        subject.held(&[("seat", 1)]).await,
    ];
    accepted(subject.one(Command::Commit(committed.token)).await);
    accepted(subject.one(Command::Release(released.token)).await);
    accepted(subject.one(Command::Commit(cancelled.token)).await);
    accepted(subject.one(Command::Cancel(cancelled.token)).await);
    let already = "already-released";
    assert_eq!(outcomes_of(released.token).await, [already, "accepted", "not-committed", already, already]);
    let already = "already-cancelled";
    assert_eq!(outcomes_of(cancelled.token).await, [already, already, "accepted", already, already]);
    subject.pass(HELD).await;
    let gone = "hold-expired";
    assert_eq!(outcomes_of(expired.token).await, [gone, gone, "not-committed", gone, "accepted"]);
    assert_eq!(
        outcomes_of(expired.token).await,
        [gone, gone, "not-committed", gone, "accepted"],
        "after the expiry was written"
    );
    // This one comes last, because one of the commands cancels it.
    let already = "already-committed";
    assert_eq!(
        outcomes_of(committed.token).await,
        ["accepted", already, "accepted", "already-cancelled", "already-cancelled"]
    );
    assert_eq!(subject.available("seat").await, 4);
    subject.assert_consistent().await;
}

/// I6: at its last instant and later a hold cannot be committed, and readers see it as EXPIRED and its units as
/// available, although no expiry is written yet.
pub async fn a_hold_ends_on_time(subject: &Subject) {
    subject.stock("seat", 3).await;
    let (held, _) = accepted(subject.one(Command::Reserve(reserve("k", &[("seat", 2)], 1))).await);
    assert_eq!(held.expires_at, held.created_at + Duration::from_secs(1));
    assert_eq!(subject.available("seat").await, 1);
    let outbox = subject.unpublished().await;
    subject.pass(Duration::from_secs(1)).await;
    assert_eq!(
        subject.one(Command::Commit(held.token)).await,
        Err(Refusal::HoldExpired { expired_at: held.expires_at })
    );
    assert_eq!(subject.available("seat").await, 3);
    let read = subject.store.reservation(held.token).await.expect("read").expect("known");
    assert_eq!(read.status, Status::Expired);
    assert_eq!(subject.unpublished().await, outbox, "the expiry is not written yet");
    let (expired, change) = accepted(subject.one(Command::Expire(held.token)).await);
    assert_eq!((expired.status, change), (Status::Expired, Change::Changed));
    assert_eq!(subject.available("seat").await, 3);
    subject.assert_consistent().await;
}

/// I6: the units of an overdue hold are sold to the next command that needs them, through any handle and without a
/// sweeper, and only as many as needed are given back.
pub async fn overdue_units_are_sold_without_a_sweeper(subject: &Subject) {
    subject.stock("seat", 2).await;
    let first = accepted(subject.one(Command::Reserve(reserve("1", &[("seat", 1)], 1))).await).0;
    let second = accepted(subject.one(Command::Reserve(reserve("2", &[("seat", 1)], 2))).await).0;
    assert_eq!(slug(&subject.one(Command::Reserve(reserve("3", &[("seat", 1)], 60))).await), "out-of-stock");
    subject.pass(Duration::from_secs(2)).await;
    let batch = [Command::Reserve(reserve("3", &[("seat", 1)], 60))];
    let executed = subject.other.execute(&batch, CommitMode::Commit).await.expect("executed");
    assert!(executed.outcomes[0].is_ok(), "{:?}", executed.outcomes);
    assert_eq!((executed.expired_on_demand, executed.events), (1, 2), "the oldest one, and no edge");
    assert_eq!(subject.available("seat").await, 1);
    let due = subject.store.due(10).await.expect("due");
    assert_eq!(due.tokens, [second.token], "{first:?} was given back");
    subject.assert_consistent().await;
}

/// I6: for one hold, more overdue holds are given back than one lookup returns.
pub async fn many_overdue_holds_expire_at_once(subject: &Subject) {
    const HOLDS: u64 = 600;
    subject.stock("seat", HOLDS).await;
    let batch: Vec<Command> =
        (0..HOLDS).map(|_| Command::Reserve(reserve(&random_key(), &[("seat", 1)], 1))).collect();
    subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    subject.pass(Duration::from_secs(1)).await;
    let batch = [
        Command::Reserve(reserve("too much", &[("seat", HOLDS + 1)], 60)),
        Command::Reserve(reserve("all", &[("seat", HOLDS)], 60)),
        Command::Reserve(reserve("late", &[("seat", 1)], 60)),
    ];
    let executed = subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    assert_eq!(
        executed.outcomes.iter().map(slug).collect::<Vec<_>>(),
        ["out-of-stock", "accepted", "out-of-stock"]
    );
    assert!(
        matches!(&executed.outcomes[0], Err(Refusal::OutOfStock { available: HOLDS, .. })),
        "{:?}",
        executed.outcomes[0]
    );
    assert_eq!(executed.expired_on_demand, HOLDS);
    subject.assert_consistent().await;
}

/// I6: if more overdue holds are in the way than one transaction may expire, the refusal says so instead of
/// `out-of-stock`, and nothing is written.
pub async fn more_overdue_holds_than_a_batch_are_not_out_of_stock(subject: &Subject) {
    const HOLDS: u64 = 5_000;
    subject.stock("seat", HOLDS).await;
    for _ in 0..5 {
        let batch: Vec<Command> =
            (0..HOLDS / 5).map(|_| Command::Reserve(reserve(&random_key(), &[("seat", 1)], 1))).collect();
        subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    }
    subject.pass(Duration::from_secs(1)).await;
    let outbox = subject.unpublished().await;
    let all = reserve("all", &[("seat", HOLDS)], 60);
    let batch = [Command::Reserve(all.clone()), Command::Commit(Token::from_uuid(Uuid::now_v7()))];
    let outcomes = subject.store.execute(&batch, CommitMode::Commit).await.expect("executed").outcomes;
    assert_eq!(outcomes[0], Err(Refusal::Backlogged { resource_id: id("seat") }));
    assert_eq!(
        slug(&outcomes[1]),
        "reservation-not-found",
        "the other commands of the batch get their outcomes"
    );
    assert_eq!(subject.unpublished().await, outbox);
    // The timer expires them in parts, and then the hold succeeds.
    let due = subject.store.due(1_500).await.expect("due").tokens;
    let expire: Vec<Command> = due.into_iter().map(Command::Expire).collect();
    subject.store.execute(&expire, CommitMode::Commit).await.expect("executed");
    accepted(subject.one(Command::Reserve(all)).await);
    subject.assert_consistent().await;
}

/// I6: many resources that fall short at once share the lock set of their batch, and all their overdue units are sold.
pub async fn overdue_units_of_many_resources_are_sold_in_one_batch(subject: &Subject) {
    const RESOURCES: usize = 400;
    let names: Vec<String> = (0..RESOURCES).map(|n| format!("r-{n}")).collect();
    let hold = |name: &String, ttl| Command::Reserve(reserve(&random_key(), &[(name, 1)], ttl));
    let define =
        |name: &String| Command::Define(Define { resource_id: id(name), total: 1, fulfilment: None });
    let defined: Vec<Command> = names.iter().map(define).collect();
    let short: Vec<Command> = names.iter().map(|name| hold(name, 1)).collect();
    for batch in [defined, short] {
        subject.store.execute(&batch, CommitMode::Commit).await.expect("executed");
    }
    subject.pass(Duration::from_secs(1)).await;
    let again: Vec<Command> = names.iter().map(|name| hold(name, 60)).collect();
    let executed = subject.store.execute(&again, CommitMode::Commit).await.expect("executed");
    for (name, outcome) in names.iter().zip(&executed.outcomes) {
        assert_eq!(slug(outcome), "accepted", "{name}");
    }
    assert_eq!(executed.expired_on_demand, RESOURCES as u64);
    subject.assert_consistent().await;
}

/// I6, I2: an overdue hold of several resources gives all of them back if one of them is needed.
pub async fn overdue_holds_of_several_resources_expire(subject: &Subject) {
    for name in ["a", "b", "c"] {
        subject.stock(name, 1).await;
    }
    accepted(subject.one(Command::Reserve(reserve("1", &[("a", 1), ("c", 1)], 1))).await);
    accepted(subject.one(Command::Reserve(reserve("2", &[("b", 1)], 1))).await);
    subject.pass(Duration::from_secs(1)).await;
    accepted(subject.one(Command::Reserve(reserve("3", &[("a", 1), ("b", 1)], 60))).await);
    let available =
        [subject.available("a").await, subject.available("b").await, subject.available("c").await];
    assert_eq!(available, [0, 0, 1]);
    subject.assert_consistent().await;
}

/// A hold is extended to the later of its end and the TTL from now, but never past its longest life, and not once it
/// is overdue.
pub async fn a_hold_is_extended_within_its_longest_life(subject: &Subject) {
    subject.stock("seat", 1).await;
    let (held, _) = accepted(subject.one(Command::Reserve(reserve("k", &[("seat", 1)], 2))).await);
    let (same, change) = accepted(subject.one(extend(held.token, 1)).await);
    assert_eq!((same.expires_at, same.version, change), (held.expires_at, 1, Change::Unchanged));
    subject.pass(Duration::from_secs(1)).await;
    let (longer, change) = accepted(subject.one(extend(held.token, 2)).await);
    assert!(longer.expires_at > held.expires_at, "{longer:?}");
    assert_eq!((longer.version, change), (2, Change::Changed));
    let (longest, _) = accepted(subject.one(extend(held.token, 1_000)).await);
    assert_eq!(
        longest.expires_at,
        held.created_at + Duration::from_secs(LIFE),
        "never past its longest life"
    );
    subject.pass(Duration::from_secs(LIFE - 1)).await;
    assert_eq!(slug(&subject.one(extend(held.token, 10)).await), "hold-expired");
    subject.assert_consistent().await;
}

/// The timer's view: overdue holds, oldest first, each once, and when the next hold ends.
pub async fn due_holds_are_listed_oldest_first(subject: &Subject) {
    subject.stock("a", 10).await;
    subject.stock("b", 10).await;
    let due = subject.store.due(10).await.expect("due");
    assert_eq!((due.tokens.len(), due.next), (0, None));
    let late = accepted(subject.one(Command::Reserve(reserve("3", &[("a", 1)], 3))).await).0;
    let second = accepted(subject.one(Command::Reserve(reserve("2", &[("a", 1), ("b", 1)], 2))).await).0;
    let first = accepted(subject.one(Command::Reserve(reserve("1", &[("b", 1)], 1))).await).0;
    let due = subject.store.due(10).await.expect("due");
    assert_eq!((due.tokens.len(), due.next), (0, Some(first.expires_at)));
    subject.pass(Duration::from_secs(2)).await;
    let due = subject.store.due(10).await.expect("due");
    assert_eq!((due.tokens, due.next), (vec![first.token, second.token], Some(late.expires_at)));
    let due = subject.store.due(1).await.expect("due");
    assert_eq!((due.tokens, due.next), (vec![first.token], Some(second.expires_at)));
}

/// The longest life of a hold in these tests, in seconds.
const LIFE: u64 = 4;

fn extend(token: Token, ttl_seconds: u64) -> Command {
    let ttl = Ttl::new("ttl", ttl_seconds).expect("valid");
    Command::Extend(Extend { token, ttl, life_max_seconds: LIFE })
}
