//! The number of round trips, and the rows that a transaction locks.

use std::{sync::Arc, time::Duration};

use bespeak::{
    engine::{Accepted, Command, Extend, Outcome, Refusal, Token, Ttl},
    store::{
        Clock, CommitMode, FixedClock, Guard, Store,
        mysql::{MysqlOptions, MysqlStore},
    },
};
use bespeak_services::Mysql;
use bespeak_tests::{Api, Books, Client, until};

use super::{ask_innodb, ask_root, define, hold, id, stock, through_proxy, transactions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_is_prepared() {
    const PREPARED: &str = "SHOW GLOBAL STATUS LIKE 'Com_stmt_prepare'";
    // A server of its own: it counts what everybody prepares.
    let server = Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let store = books.open(None, Guard::RowLock).await;
    store.migrate().await.expect("migrated");
    stock(&*store, "seat", 1_000_000).await;
    let api = Api::start(books).await;
    let before = ask_root(&api.books, PREPARED).await;
    for size in [1, 2, 3, 7, 33, 100, 257, 1_025] {
        let holds: Vec<_> = (0..size).map(|n| hold(&format!("{size}-{n}"), &["seat"])).collect();
        let commits: Vec<_> = holds.iter().filter_map(|hold| made(hold).map(Command::Commit)).collect();
        let batch: Vec<_> = holds.into_iter().chain(commits).collect();
        let executed = store.execute(&batch, CommitMode::Commit).await.expect("executed");
        assert!(executed.outcomes.iter().all(Result::is_ok));
    }
    for n in 0..5 {
        let token = api.hold(&format!("api-{n}"), "seat", 1).await;
        api.act(["commit", "release"][n % 2], &token).await;
        api.get(&format!("/api/v1/reservations/{token}")).await;
        api.get("/api/v1/resources").await;
    }
    assert_eq!(ask_root(&api.books, PREPARED).await, before);
    api.books.assert_consistent().await;
}

fn made(command: &Command) -> Option<Token> {
    match command {
        Command::Reserve(reserve) => Some(reserve.token),
        _ => None,
    }
}

/// A batch of holds takes at most 8 round trips and a mixed batch 11, whatever their sizes, and the counter is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_trips_are_few_and_counted() {
    let books = Books::mysql().await;
    let (proxy, url) = through_proxy(&books);
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let options = MysqlOptions { writers: 1, clock: Clock::Fixed(clock.clone()), ..MysqlOptions::default() };
    let store: Arc<dyn Store> = Arc::new(MysqlStore::new(&url, options).expect("a URL"));
    store.migrate().await.expect("migrated");
    stock(&*store, "seat", 400).await;
    stock(&*store, "car", 1_000).await;

    let holds: Vec<_> = (0..300).map(|n| hold(&format!("{n}"), &["seat"])).collect();
    let tokens: Vec<_> = holds.iter().filter_map(made).collect();
    assert_eq!(counted(&*store, &proxy, &holds).await.0, 3);
    let more: Vec<_> = (300..600).map(|n| hold(&format!("{n}"), &["seat"])).collect();
    let (round_trips, outcomes) = counted(&*store, &proxy, &more).await;
    let refused =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(Refusal::OutOfStock { .. }))).count();
    assert_eq!((refused, round_trips), (200, 4), "one more round trip finds the next release");

    // A mixed batch commits, releases and extends some holds; later the others are overdue and expire on demand.
    let mut mixed: Vec<_> = tokens[..100].iter().map(|token| Command::Commit(*token)).collect();
    mixed.extend(tokens[100..150].iter().map(|token| Command::Release(*token)));
    let ttl = Ttl::new("ttl", 7_200).expect("valid");
    mixed.extend(
        tokens[150..200]
            .iter()
            .map(|token| Command::Extend(Extend { token: *token, ttl, life_max_seconds: 172_800 })),
    );
    mixed.extend([define("new", 5), define("car", 2_000)]);
    mixed.extend((600..650).map(|n| hold(&format!("{n}"), &["car", "seat"])));
    let (round_trips, outcomes) = counted(&*store, &proxy, &mixed).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(round_trips <= 11, "{round_trips}");
    clock.advance(Duration::from_secs(3_601));
    let late: Vec<_> = (650..750).map(|n| hold(&format!("{n}"), &["seat"])).collect();
    let (round_trips, outcomes) = counted(&*store, &proxy, &late).await;
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Ok(Accepted::Reservation { .. }))),
        "{outcomes:?}"
    );
    assert!(round_trips <= 11, "{round_trips} with overdue holds expired on demand");
    books.assert_consistent().await;
}

async fn counted(
    store: &dyn Store,
    proxy: &bespeak_services::Proxy,
    commands: &[Command],
) -> (u32, Vec<Outcome>) {
    let before = proxy.commands();
    let executed = store.execute(commands, CommitMode::Commit).await.expect("executed");
    let seen = proxy.commands() - before;
    // The pool pings a connection that is returned or was idle, and with overdue holds there are two transactions.
    let counted = u64::from(executed.round_trips);
    assert!((counted..=counted + 4).contains(&seen), "{seen} went through the proxy, {counted} were counted");
    (executed.round_trips, executed.outcomes)
}

/// A transaction locks only the rows that its commands name, so that commands on different resources never wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_locks_only_the_rows_it_names() {
    let books = Books::mysql().await;
    let store = books.open(None, Guard::RowLock).await;
    store.migrate().await.expect("migrated");
    let defines: Vec<_> = (0..1_000).map(|n| define(&format!("r{n:04}"), 10)).collect();
    store.execute(&defines, CommitMode::Commit).await.expect("defined");
    let holds: Vec<_> = (0..1_000).map(|n| hold(&format!("{n}"), &[&format!("r{n:04}")])).collect();
    store.execute(&holds, CommitMode::Commit).await.expect("held");

    // Another session locks the last resource, so a transaction that needs it waits after locking the others.
    let mut blocker = books.root().await;
    let name = books.name();
    let lock = format!("BEGIN; SELECT * FROM {name}.resources WHERE id = 'r0999' FOR UPDATE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut blocker).await.expect("locked");
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move {
            store.execute(&[hold("three", &["r0001", "r0500", "r0999"])], CommitMode::Commit).await
        })
    };
    // Two locked rows, and the row that the transaction waits for.
    let locked = format!(
        "SELECT CAST(COALESCE(MAX(t.trx_rows_locked), 0) AS CHAR) FROM {} WHERE t.trx_state = 'LOCK WAIT'",
        transactions(&books)
    );
    until("the transaction waits", || async { ask_innodb(&books, &locked).await > 0 }).await;
    assert!(ask_root(&books, &locked).await <= 3, "{} rows", ask_root(&books, &locked).await);
    for n in (0..999).filter(|n| ![1, 500].contains(n)).step_by(37) {
        let batch = [hold(&format!("free-{n}"), &[&format!("r{n:04}")])];
        let free = store.execute(&batch, CommitMode::Commit);
        let free =
            tokio::time::timeout(Duration::from_secs(1), free).await.expect("the command must not wait");
        assert!(free.expect("executed").outcomes[0].is_ok());
    }
    let tokens: Vec<_> = holds.iter().filter_map(made).collect();
    let release = store.execute(&[Command::Release(tokens[2])], CommitMode::Commit).await.expect("executed");
    assert!(release.outcomes[0].is_ok());
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.expect("unlocked");
    assert!(waiting.await.expect("no panic").expect("executed").outcomes[0].is_ok());
    assert_eq!(store.resource(&id("r0999")).await.expect("read").expect("known").available, 8);
    books.assert_consistent().await;
}

/// The clock is read after the last lock: a hold that expires while a commit waits for its lock cannot be committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_is_read_after_the_last_lock() {
    let books = Books::mysql().await;
    let api = Api::start(books).await;
    api.stock("seat", 1).await;
    let body = serde_json::json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1});
    let held = api.reserve("k", &body).await.json();
    let token = held["token"].as_str().expect("a token").to_owned();
    let mut blocker = api.books.root().await;
    let lock = format!("BEGIN; SELECT * FROM {}.reservations FOR UPDATE", api.books.name());
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut blocker).await.expect("locked");
    let commit = async {
        let reply = api.act("commit", &token).await;
        assert_eq!(reply.problem(), (410, "hold-expired".to_owned()), "{}", reply.text);
    };
    let release = async {
        // The commit is sent at once and waits until the hold's time is up.
        let ends = held["expiresAt"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
        until("the hold has expired", || async { jiff::Timestamp::now() > ends }).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.expect("unlocked");
    };
    tokio::join!(commit, release);
    api.books.assert_consistent().await;
}
