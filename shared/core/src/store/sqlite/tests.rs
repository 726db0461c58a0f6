//! Stories about the connections of this back end, which only this module can occupy.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::{Sqlite, pool::PoolConnection};
use uuid::Uuid;

use super::{Clock, SqliteOptions, SqliteStore, connect::Pool};
use crate::{
    engine::{
        Command, Define, IdempotencyKey, Item, Items, Limits, Quantity, ReserveDraft, ResourceId, Status,
        Token,
    },
    store::{CommitMode, FixedClock, LeaseStore, OutboxStore, Page, Store, WebhookStore},
};

struct Subject {
    store: Arc<SqliteStore>,
    clock: FixedClock,
    folder: PathBuf,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // The files may be open; Linux removes them nevertheless.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn seat() -> ResourceId {
    ResourceId::new("id", "seat").expect("valid")
}

fn key() -> IdempotencyKey {
    IdempotencyKey::new("key").expect("valid")
}

/// A store with one seat, which is held for a minute; returns the token.
async fn subject(readers: u32) -> (Subject, Token) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let folder = std::env::temp_dir().join(format!("bespeak-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let url = format!("sqlite://{}", folder.join("books.db").display());
    let options = SqliteOptions { readers, clock: Clock::Fixed(clock.clone()), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(&url, options).await.expect("opened"));
    store.migrate().await.expect("migrated");
    let limits = Limits::default();
    let item = Item { resource_id: seat(), quantity: Quantity::new("quantity", 1).expect("valid") };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits).expect("valid"),
        ttl: limits.ttl("ttl", Some(60)).expect("valid"),
        holder: None,
        metadata: None,
        key: key(),
    };
    let token = Token::from_uuid(Uuid::now_v7());
    let commands = [
        Command::Define(Define { resource_id: seat(), total: 1, fulfilment: None }),
        Command::Reserve(draft.with_token(token)),
    ];
    store.execute(&commands, CommitMode::Commit).await.expect("held");
    (Subject { store, clock, folder }, token)
}

/// All connections of a pool.
async fn all_of(pool: &Pool) -> Vec<PoolConnection<Sqlite>> {
    let mut taken = Vec::new();
    while taken.len() < pool.in_use().max {
        taken.push(pool.acquire().await.expect("a connection"));
    }
    taken
}

async fn until_one_waits(pool: &Pool) {
    let waits = async {
        while pool.in_use().waiting == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waits).await.expect("a call waits for a connection");
}

/// The result of a read that waits for a connection, while a minute passes.
async fn waited<T: Send + 'static>(subject: &Subject, read: impl Future<Output = T> + Send + 'static) -> T {
    let views = &subject.store.readers.views;
    let taken = all_of(views).await;
    let read = tokio::spawn(read);
    until_one_waits(views).await;
    subject.clock.advance(Duration::from_secs(61));
    drop(taken);
    read.await.expect("no panic")
}

/// I6: the time of a view is that at which it reads. A hold that ended while the view waited for a connection is over.
#[tokio::test]
async fn a_view_that_waited_for_a_connection_shows_the_present() {
    let (subject, token) = subject(1).await;
    let began = subject.clock.now();
    let store = subject.store.clone();
    let shown =
        waited(&subject, async move { store.reservation(token).await.expect("read").expect("found") });
    assert_eq!(shown.await.status, Status::Expired);
    let store = subject.store.clone();
    let (_, now) = waited(&subject, async move { store.by_keys(&[key()]).await.expect("read") }).await;
    assert_eq!(now, began + Duration::from_secs(122));
    let store = subject.store.clone();
    let due = waited(&subject, async move { store.due(10).await.expect("read") }).await;
    assert_eq!(due.now, began + Duration::from_secs(183));
}

#[tokio::test]
async fn a_resource_that_was_waited_for_has_the_units_of_holds_that_ended_meanwhile() {
    let (subject, _) = subject(1).await;
    let views = &subject.store.readers.views;
    let taken = all_of(views).await;
    let store = subject.store.clone();
    let one = tokio::spawn(async move { store.resource(&seat()).await });
    let store = subject.store.clone();
    let page = tokio::spawn(async move { store.resources(&Page { after: None, limit: 10 }).await });
    until_one_waits(views).await;
    subject.clock.advance(Duration::from_secs(61));
    drop(taken);
    assert_eq!(one.await.expect("no panic").expect("read").expect("found").available, 1);
    assert_eq!(page.await.expect("no panic").expect("read")[0].available, 1);
}

/// A crowd of readers holds up neither the timer, the relay, the dispatcher and the purge, nor commands, nor metrics.
#[tokio::test]
async fn a_crowd_of_readers_holds_up_no_other_part() {
    let (subject, token) = subject(4).await;
    let store = &subject.store;
    let crowd = all_of(&store.readers.views).await;
    let others = async {
        store.due(10).await.expect("the timer reads");
        store.unpublished(&crate::store::OutboxRead::oldest(&[0, 1], 10)).await.expect("the relay reads");
        store.by_keys(&[key()]).await.expect("a lane reads");
        store.first_resources(&[token]).await.expect("a lane reads");
        store.purge_reservations(Duration::ZERO, None, 10).await.expect("the purge reads");
        store.purge_leases(Duration::ZERO, None, 10).await.expect("the purge reads");
        store.purge_deliveries(Duration::ZERO, 10).await.expect("the purge reads");
        store.backlog().await.expect("metrics are counted");
        store.pending_deliveries().await.expect("metrics are counted");
    };
    others.await;
    let counted = all_of(&store.readers.metrics).await;
    store.due(10).await.expect("the timer reads while metrics are counted");
    drop((crowd, counted));
    let names: Vec<_> = store.pools().iter().map(|pool| (pool.pool, pool.max)).collect();
    assert_eq!(names, [("writers", 1), ("readers", 4), ("background", 2), ("metrics", 1)]);
}

/// Counting takes as long as there are rows, so it stops.
#[tokio::test]
async fn a_long_backlog_is_not_counted_to_its_end() {
    let (subject, _) = subject(4).await;
    let many = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100100)
        INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at)
        SELECT randomblob(16), 0, 'key', 1, 'type', '{}', 1 FROM n";
    let blocked = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100100)
        INSERT INTO outbox_blocked (event_key, event_id, blocked_until, attempts, parked, reason, updated_at)
        SELECT 'key-' || n, randomblob(16), 1, 1, 0, 'reason', 1 FROM n";
    let mut writer = subject.store.writer.acquire().await.expect("a connection");
    let endpoints = "INSERT INTO webhook_endpoints (id, url, secret, created_at, updated_at)
        VALUES (x'00000000000000000000000000000001', 'https://a.example', 's', 1, 1),
            (x'00000000000000000000000000000002', 'https://b.example', 's', 1, 1)";
    let deliveries = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100100)
        INSERT INTO webhook_deliveries (endpoint_id, event_id, type, event_at, payload, status, next_attempt_at,
            created_at, updated_at)
        SELECT CASE WHEN n = 100100 THEN x'00000000000000000000000000000002'
            ELSE x'00000000000000000000000000000001' END, randomblob(16), 'type', 1, '{}', 'PENDING',
            CASE WHEN n = 100100 THEN 1 ELSE 4000000000000000 END, 1, 1 FROM n";
    for sql in [many, blocked, endpoints, deliveries] {
        sqlx::raw_sql(sql).execute(&mut *writer).await.expect("inserted");
    }
    drop(writer);
    let backlog = subject.store.backlog().await.expect("counted");
    assert_eq!((backlog.unpublished, backlog.blocked), (100_000, 100_000));
    let pending = subject.store.pending_deliveries().await.expect("counted");
    assert_eq!((pending.waiting, pending.stopped), (100_000, 0));
    let overdue = subject.clock.now().duration_since(crate::engine::Timestamp::UNIX_EPOCH);
    assert!(
        pending.overdue.as_secs().abs_diff(overdue.as_secs().unsigned_abs()) < 2,
        "{:?}",
        pending.overdue
    );
}
