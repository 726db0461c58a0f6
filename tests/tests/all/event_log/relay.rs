//! Relays that publish to a log under the control of the test: order, failures, leases.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bespeak::{
    envelope::OutboxEvent,
    events::{
        PublishError, Publisher,
        relay::{Relay, RelayOptions, RelayStep},
    },
    store::{Database, FixedClock, Guard},
    trace::TraceContext,
};
use bespeak_tests::{Api, Books, Client, each_store};

each_store!(
    one_failed_delivery_leaves_the_others_marked_and_in_order,
    a_refused_event_parks_its_key,
    an_outage_blames_no_key,
    relays_share_the_work_and_keep_the_order,
    a_frozen_relay_that_wakes_up_is_refused,
);

type Became = Box<dyn Fn(&OutboxEvent) -> Result<(), PublishError> + Send + Sync>;

/// A log in memory that keeps the promise of publishers: no event of a key is sent after a failed one.
#[derive(Clone)]
pub(super) struct Log {
    written: Arc<Mutex<Vec<OutboxEvent>>>,
    became: Arc<Mutex<Became>>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { written: Arc::default(), became: Arc::new(Mutex::new(Box::new(|_| Ok(())))) }
    }

    fn answers(&self, became: impl Fn(&OutboxEvent) -> Result<(), PublishError> + Send + Sync + 'static) {
        *self.became.lock().expect("no panic") = Box::new(became);
    }

    pub(super) fn written(&self) -> Vec<OutboxEvent> {
        self.written.lock().expect("no panic").clone()
    }

    /// Asserts that the first appearances of each key are in the order of versions.
    pub(super) fn assert_consistent(&self) {
        let mut last: HashMap<String, u64> = HashMap::new();
        let mut seen = HashSet::new();
        for event in self.written() {
            if seen.insert(event.event_id) {
                let before = last.insert(event.key.clone(), event.version).unwrap_or(0);
                assert!(before < event.version, "{} {} after {before}", event.key, event.version);
            }
        }
    }
}

#[async_trait]
impl Publisher for Log {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        tokio::task::yield_now().await;
        let mut broken = HashSet::new();
        events
            .iter()
            .map(|event| {
                if broken.contains(&event.key) {
                    return Err(PublishError::Behind);
                }
                let became = (self.became.lock().expect("no panic"))(event);
                match &became {
                    Ok(()) => self.written.lock().expect("no panic").push(event.clone()),
                    Err(_) => drop(broken.insert(event.key.clone())),
                }
                became
            })
            .collect()
    }
}

const OPTIONS: RelayOptions = RelayOptions {
    // These tests move only the clock of the database, and relays renew leases by the clock of the process.
    lease_for: Duration::from_secs(1_000_000),
    batch: 1_000,
    of_one_key: 128,
    bytes: 16 << 20,
    attempts_max: 3,
    back_off_first: Duration::from_secs(1),
    back_off_max: Duration::from_secs(300),
};

struct Scene {
    api: Api,
    store: Arc<dyn Database>,
    clock: FixedClock,
    log: Log,
}

impl Scene {
    async fn on(books: Books) -> Self {
        let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
        let api = Api::at(books, &clock).await;
        api.stock("car", 1_000).await;
        let store = api.books.open(Some(&clock), Guard::RowLock).await;
        Self { api, store, clock, log: Log::new() }
    }

    fn relay(&self) -> Relay {
        Relay::new(self.store.clone(), Arc::new(self.log.clone()), OPTIONS)
    }

    /// Reservations of two events each; their tokens.
    async fn trade(&self, name: &str, count: usize) -> Vec<String> {
        let mut tokens = Vec::new();
        for n in 0..count {
            let token = self.api.hold(&format!("{name}-{n}"), "car", 1).await;
            assert_eq!(self.api.act("commit", &token).await.status, 200);
            tokens.push(token);
        }
        tokens
    }

    async fn waiting(&self) -> u64 {
        self.store.backlog().await.expect("counted").unpublished
    }
}

async fn step(relay: &mut Relay) -> RelayStep {
    relay.step().await.expect("stepped")
}

async fn one_failed_delivery_leaves_the_others_marked_and_in_order(books: Books) {
    // Given ten reservations, of which one event's delivery is reported as failed
    let scene = Scene::on(books).await;
    let tokens = scene.trade("a", 10).await;
    let bad = tokens[4].clone();
    let named = bad.clone();
    scene.log.answers(move |event| {
        if event.key == named && event.version == 1 {
            return Err(PublishError::Rejected("message too large".to_owned()));
        }
        Ok(())
    });
    // When a relay runs one step
    let mut relay = scene.relay();
    let first = step(&mut relay).await;
    // Then all other keys are marked, and the event after the failed one waits
    assert_eq!((first.claimed, first.published, first.failed, first.parked), (20, 18, 1, 0));
    assert_eq!(scene.waiting().await, 2);
    // And no event of the key is sent before its wait is over; then both are sent, in order
    scene.log.answers(|_| Ok(()));
    assert_eq!(step(&mut relay).await.claimed, 0);
    scene.clock.advance(Duration::from_secs(2));
    assert_eq!(step(&mut relay).await.published, 2);
    scene.log.assert_consistent();
    assert_eq!((scene.waiting().await, scene.log.written().len()), (0, 20));
    assert_eq!(
        scene.store.backlog().await.expect("counted").blocked,
        0,
        "the failure is forgotten after a success"
    );
}

async fn a_refused_event_parks_its_key(books: Books) {
    let scene = Scene::on(books).await;
    let bad = scene.trade("a", 1).await.remove(0);
    let named = bad.clone();
    scene.log.answers(move |event| {
        if event.key == named { Err(PublishError::Rejected("too large".to_owned())) } else { Ok(()) }
    });
    let mut relay = scene.relay();
    // Each wait is longer than the one before. The third failure parks the key.
    for (attempt, parked) in [(1, 0), (2, 0), (3, 1)] {
        let tried = step(&mut relay).await;
        assert_eq!((tried.failed, tried.parked), (1, parked), "attempt {attempt}");
        scene.clock.advance(Duration::from_secs(5));
    }
    // Less than a day, which is the longest lease.
    scene.clock.advance(Duration::from_secs(50_000));
    assert_eq!(step(&mut relay).await.claimed, 0, "parked");
    scene.trade("b", 3).await;
    assert_eq!(step(&mut relay).await.published, 6, "other keys are published");
    // When the cause is removed and an operator retries
    scene.log.answers(|_| Ok(()));
    assert_eq!(scene.store.retry_blocked(Some(&bad)).await.expect("tried"), 1);
    assert_eq!(step(&mut relay).await.published, 2);
    scene.log.assert_consistent();
    assert_eq!(scene.waiting().await, 0);
}

async fn an_outage_blames_no_key(books: Books) {
    let scene = Scene::on(books).await;
    let tokens = scene.trade("a", 5).await;
    scene.log.answers(|_| Err(PublishError::Unavailable("no broker".to_owned())));
    let mut relay = scene.relay();
    for _ in 0..20 {
        let tried = step(&mut relay).await;
        assert_eq!((tried.published, tried.parked, tried.outage.as_deref()), (0, 0, Some("no broker")));
    }
    let backlog = scene.store.backlog().await.expect("counted");
    assert_eq!((backlog.unpublished, backlog.blocked, backlog.parked), (10, 0, 0));
    // If only a part of the log is unavailable, its keys wait and are never parked.
    let away = tokens[0].clone();
    scene.log.answers(move |event| {
        if event.key == away { Err(PublishError::Unavailable("no leader".to_owned())) } else { Ok(()) }
    });
    assert_eq!(step(&mut relay).await.published, 8);
    for n in 0..10 {
        scene.clock.advance(Duration::from_secs(20));
        scene.trade(&format!("b{n}"), 1).await;
        step(&mut relay).await;
    }
    let backlog = scene.store.backlog().await.expect("counted");
    assert_eq!((backlog.unpublished, backlog.parked), (2, 0));
    scene.log.answers(|_| Ok(()));
    scene.clock.advance(Duration::from_secs(20));
    step(&mut relay).await;
    scene.log.assert_consistent();
    let backlog = scene.store.backlog().await.expect("counted");
    assert_eq!((backlog.unpublished, backlog.blocked), (0, 0), "the failure is forgotten after a success");
}

async fn relays_share_the_work_and_keep_the_order(books: Books) {
    for relays in [2, 4] {
        let scene = Scene::on(books.another().await).await;
        // The leases never expire, because the database's clock stands still, but relays renew them after 3 ms.
        let options = RelayOptions { lease_for: Duration::from_millis(3), ..OPTIONS };
        let relay = || Relay::new(scene.store.clone(), Arc::new(scene.log.clone()), options);
        let mut all: Vec<Relay> = (0..relays).map(|_| relay()).collect();
        // Each relay finds the others and gives up their share of the shards.
        for _ in 0..3 {
            for relay in &mut all {
                step(relay).await;
                tokio::time::sleep(options.lease_for).await;
            }
        }
        let trading = scene.trade("a", 200);
        let working = async {
            let mut worked = vec![0; relays];
            while worked.iter().sum::<u64>() < 400 {
                let steps = futures_util::future::join_all(all.iter_mut().map(Relay::step)).await;
                for (worked, step) in worked.iter_mut().zip(steps) {
                    *worked += step.expect("stepped").published;
                }
                // A pause like that of a relay, so that other writers get the lock of the file.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            worked
        };
        let (_, worked) = tokio::join!(trading, working);
        assert!(worked.iter().all(|events| *events > 0), "each relay must have published events: {worked:?}");
        scene.log.assert_consistent();
        assert_eq!((scene.waiting().await, scene.log.written().len()), (0, 400), "each event once");
    }
}

async fn a_frozen_relay_that_wakes_up_is_refused(books: Books) {
    // Given a relay that froze after it had read its batch, past its lease
    let scene = Scene::on(books).await;
    scene.trade("a", 10).await;
    let (sender, woken) = tokio::sync::oneshot::channel();
    let asleep = Asleep { log: scene.log.clone(), woken: tokio::sync::Mutex::new(Some(woken)) };
    let mut frozen = Relay::new(scene.store.clone(), Arc::new(asleep), OPTIONS);
    let sleeping = tokio::spawn(async move {
        let step = frozen.step().await;
        (frozen, step)
    });
    bespeak_tests::until("it has read its batch", async || {
        scene.api.books.count("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL").await > 0
    })
    .await;
    scene.clock.advance(OPTIONS.lease_for);
    // And another relay that took its shards and published
    let mut other = scene.relay();
    assert_eq!(step(&mut other).await.published, 20);
    // And an operator who requested all events again
    let (since, until) =
        ("2020-01-01T00:00:00Z".parse().expect("a time"), "2030-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(scene.store.republish(since, until, 0, 100).await.expect("noted").events, 20);
    scene.trade("b", 5).await;
    // When the frozen relay resumes
    sender.send(()).expect("it waits");
    let (mut frozen, late) = sleeping.await.expect("no panic");
    let late = late.expect("stepped");
    // Then its events are duplicates, and its marks and its next claim are refused
    assert_eq!((late.published, late.refused), (0, 20));
    assert_eq!(step(&mut frozen).await.claimed, 0, "the other holds all shards");
    assert_eq!(step(&mut other).await.published, 30, "the operator's request is not lost");
    scene.log.assert_consistent();
    let written = scene.log.written();
    let ids: HashSet<_> = written.iter().map(|event| event.event_id).collect();
    assert_eq!((written.len(), ids.len()), (70, 30));
    assert_eq!(scene.waiting().await, 0);
}

/// A publisher that sends nothing until it is woken, once.
struct Asleep {
    log: Log,
    woken: tokio::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>>,
}

#[async_trait]
impl Publisher for Asleep {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        if let Some(woken) = self.woken.lock().await.take() {
            woken.await.expect("woken");
        }
        self.log.publish(events).await
    }
}

/// The outbox assigns ids before the commit, so a row with a lower id may become visible later; the relay still finds
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_id_that_commits_later_is_published() {
    let scene = Scene::on(Books::mysql().await).await;
    // Its events have no reservation.
    scene.api.books.expect_damage();
    let insert = "INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at)
        VALUES (UNHEX(REPLACE(UUID(), '-', '')), 3, ";
    let mut first = scene.api.books.customer().await.expect("connected");
    let run = async |connection: &mut sqlx::MySqlConnection, sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.expect("run");
    };
    run(&mut first, format!("START TRANSACTION; {insert} 'early', 1, 't', '{{}}', 1)")).await;
    let mut second = scene.api.books.customer().await.expect("connected");
    run(&mut second, format!("{insert} 'late', 1, 't', '{{}}', 2)")).await;
    let mut relay = scene.relay();
    assert_eq!(step(&mut relay).await.published, 1);
    run(&mut first, "COMMIT".to_owned()).await;
    assert_eq!(step(&mut relay).await.published, 1);
    let keys: Vec<String> = scene.log.written().into_iter().map(|event| event.key).collect();
    assert_eq!(keys, ["late", "early"]);
    assert!(scene.log.written()[0].id > scene.log.written()[1].id);
}

/// A record has the headers that the schema promises to consumers.
#[test]
fn record_headers_match_their_schema() {
    let without = OutboxEvent {
        id: 1,
        event_id: uuid::Uuid::now_v7(),
        shard: 0,
        key: "seat".to_owned(),
        version: 3,
        kind: "bespeak.stock.depleted.v1".to_owned(),
        payload: "{}".to_owned(),
        created_at: jiff::Timestamp::now(),
        trace: None,
        attempts: 0,
        blocked: false,
    };
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let with = OutboxEvent { trace: TraceContext::parse(given), ..without.clone() };
    for event in [without, with] {
        let record = bespeak::envelope::record(&event, "/hotel");
        assert_eq!(record.trace(), event.trace);
        let headers: serde_json::Map<String, serde_json::Value> = record
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned().into()))
            .collect();
        let headers = serde_json::Value::Object(headers);
        for name in ["traceparent", "ce_traceparent"] {
            assert_eq!(headers[name].as_str(), event.trace.map(|_| given), "{name}");
        }
        let schemas = bespeak::envelope::schemas();
        let validator = jsonschema::validator_for(&schemas["EventHeaders"]).expect("a schema");
        let wrong: Vec<String> = validator.iter_errors(&headers).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{headers}");
        let mut without = headers.clone();
        without.as_object_mut().expect("an object").remove("ce_id");
        assert!(!validator.is_valid(&without));
    }
}
