//! Query plans: the statements of every call, of the timer and of the purge are taken from the general log and
//! explained, on three rows and on a million. Audits read whole tables and are left out.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bespeak::{
    effects::NewDelivery,
    engine::{EventType, Timestamp},
    store::{
        Database, Guard, OutboxRead,
        conformance::Enqueued,
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, Claimed, DeliveryPage, EndpointPage, ReplayPage},
    },
    webhooks::{
        Configured, CustomHeaders, EndpointChange, EndpointId, EndpointUrl, EventFilter, NewEndpoint,
        Observation, Secret, Sign,
    },
};
use bespeak_services::Mysql;
use bespeak_tests::{Api, Books, Client, until};
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlConnection, Row};
use uuid::Uuid;

const MILLION: i64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_uses_an_index() {
    // A server of its own: its log is one for all.
    let server = Mysql::start_own(&[]).await.expect("a server");
    let api = Api::start(Books::on(&server).await).await;
    let few = statements(&api, "few").await;
    explained(&api.books, &few, 3).await;
    fill(&api.books).await;
    let mut many = statements(&api, "many").await;
    // The first page of a million kept rows has nothing to purge, so some statements appear only with few rows.
    many.extend(few);
    explained(&api.books, &many, MILLION).await;
}

/// Uses every feature once, and returns the statements that were sent, one of each shape.
async fn statements(api: &Api, round: &str) -> BTreeMap<String, String> {
    let mut root = api.books.root().await;
    let on = "SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1";
    sqlx::raw_sql(on).execute(&mut root).await.expect("logged");
    let name = api.books.name();
    // Other tests may use the same server, so only connections to this database count.
    let connected = format!(
        "SELECT '0' UNION SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE db = '{name}'"
    );
    let connected = sqlx::raw_sql(AssertSqlSafe(connected)).fetch_all(&mut root).await.expect("read");
    let connected: Vec<String> =
        connected.iter().map(|row| row.try_get_unchecked(0).expect("an id")).collect();
    let (seat, car) = (format!("{round}-seat"), format!("{round}-car"));
    api.stock(&seat, 3).await;
    api.stock(&car, 3).await;
    let items = json!([{"resourceId": seat, "quantity": 1}, {"resourceId": car, "quantity": 1}]);
    let both = json!({"items": items, "ttlSeconds": 60});
    let first =
        api.reserve(&format!("{round}-1"), &both).await.json()["token"].as_str().expect("held").to_owned();
    let brief = json!({"resourceId": seat, "quantity": 2, "ttlSeconds": 1});
    assert_eq!(api.reserve(&format!("{round}-2"), &brief).await.status, 200);
    assert_eq!(api.reserve(&format!("{round}-3"), &brief).await.status, 409);
    assert_eq!(api.reserve(&format!("{round}-4"), &brief).await.status, 409, "from memory");
    until("overdue units are for sale", || async {
        api.reserve(&format!("{round}-5"), &brief).await.status == 200
    })
    .await;
    api.post("/api/v1/extend", &json!({"token": first, "ttlSeconds": 120})).await;
    api.act("commit", &first).await;
    api.act("cancel", &first).await;
    api.get(&format!("/api/v1/reservations/{first}")).await;
    api.get(&format!("/api/v1/resources/{seat}")).await;
    api.get("/api/v1/resources?limit=2").await;
    api.app.start_timer();
    api.get("/metrics").await;
    until("the timer has run", || async { logged(api, "reservations_due)").await > 0 }).await;
    // A relay, with all shards and with some, and a consumer.
    let relayed = api.books.open(None, Guard::RowLock).await;
    let all: Vec<u8> = (0..64).collect();
    let waiting = relayed.unpublished(&OutboxRead::oldest(&all, 100)).await.expect("read").events;
    assert!(!waiting.is_empty());
    relayed.unpublished(&OutboxRead::oldest(&[1, 2], 100)).await.expect("read");
    relayed.first_unpublished(&[first.as_str()]).await.expect("read");
    let ids: Vec<Uuid> = waiting.iter().map(|event| event.event_id).collect();
    relayed.applied("test", &ids).await.expect("read");
    // The purge, with events that have just been published.
    api.books.tamper("UPDATE outbox SET published_at = created_at WHERE published_at IS NULL").await;
    let store = api.books.open(None, Guard::RowLock).await;
    store.purge_reservations(Duration::ZERO, None, 500).await.expect("purged");
    store.purge_events(Duration::ZERO, 10).await.expect("purged");
    let (lock, owner) = (format!("plan-{round}"), Uuid::now_v7());
    let fencing =
        store.take_lease(&lock, owner, Duration::from_secs(60)).await.expect("taken").expect("free");
    store.end_lease_in(&lock, owner, fencing, Duration::ZERO).await.expect("ended");
    store.purge_leases(Duration::ZERO, None, 10).await.expect("purged");
    webhooks(api, &*store).await;
    sqlx::raw_sql("SET GLOBAL general_log = 0").execute(&mut root).await.expect("logged no more");
    sent(&mut root, name, &connected).await
}

/// The statements in the general log that were sent on connections to a database, one of each shape.
async fn sent(root: &mut MySqlConnection, name: &str, connected: &[String]) -> BTreeMap<String, String> {
    let sent = format!(
        "SELECT CAST(argument AS CHAR) FROM mysql.general_log WHERE command_type = 'Query' AND (thread_id IN ({})
            OR thread_id IN (SELECT thread_id FROM mysql.general_log
                WHERE command_type = 'Connect' AND argument LIKE '% on {name} %'))",
        connected.join(", ")
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(sent)).fetch_all(root).await.expect("read");
    let mut statements = BTreeMap::new();
    for row in &rows {
        let text: String = row.try_get_unchecked(0).expect("text");
        // The log has a packet as a whole, as single statements, or as the rest of a packet.
        for statement in text.split("; ").map(str::trim) {
            let ours = ["resources", "reservations", "outbox", "processed_events", "webhook_", "leases"]
                .iter()
                .any(|table| statement.contains(table));
            let verb = ["SELECT", "UPDATE resources", "UPDATE reservations", "UPDATE webhook_", "DELETE"]
                .iter()
                .any(|verb| statement.starts_with(verb));
            if ours && verb && !statement.contains("general_log") {
                statements.insert(shape(statement), statement.to_owned());
            }
        }
    }
    statements
}

/// Calls every method of the webhook port once.
async fn webhooks(api: &Api, store: &dyn Database) {
    let new = || NewEndpoint {
        id: EndpointId::from_uuid(Uuid::now_v7()),
        url: EndpointUrl::parse("url", "https://example.com/").expect("a URL"),
        filter: EventFilter::default(),
        headers: CustomHeaders::default(),
        secret: Secret::from_key([1; 32]),
        request: None,
    };
    let created = store.create_endpoint(&new(), 1_000).await.expect("made").expect("accepted");
    let endpoint = created.endpoint.id;
    let now = Timestamp::UNIX_EPOCH;
    for _ in 0..3 {
        let event_id = Uuid::now_v7();
        api.books.enqueue(&Enqueued { endpoint, event_id, event_at: now, due: now }).await;
    }
    store.change_endpoint(endpoint, &EndpointChange::Enable).await.expect("changed").expect("accepted");
    let off = EndpointChange::Disable { reason: "test".to_owned() };
    store.change_endpoint(endpoint, &off).await.expect("changed").expect("accepted");
    store.change_endpoint(endpoint, &EndpointChange::Enable).await.expect("changed").expect("accepted");
    let wanted = Configured { url: new().url, secret: new().secret, filter: None };
    store.configure_endpoint(Some(&wanted)).await.expect("configured");
    store.endpoints(EndpointPage { after: None, limit: 10 }).await.expect("read");
    store.endpoint(endpoint).await.expect("read");
    let room = ClaimCapacity {
        in_all: 3,
        per_endpoint: 3,
        at_first: 3,
        windows: HashMap::new(),
        under_way: HashMap::new(),
        idle: 0,
    };
    let claimed = store.claim_deliveries(&room, Duration::from_secs(60)).await.expect("claimed");
    let [again, over, back] = &claimed[..] else { panic!("{claimed:?}") };
    let attempt = |claimed: &Claimed, outcome| Attempt {
        delivery: claimed.delivery,
        claim: claimed.claim,
        endpoint,
        status: Some(410),
        error: None,
        outcome,
        observed: Observation { sign: Sign::Gone, is_probe: claimed.is_probe, random: 0.0 },
        was_healthy: claimed.is_healthy,
    };
    let attempts = [
        attempt(again, AttemptOutcome::Retry { after: Duration::ZERO }),
        attempt(over, AttemptOutcome::GivenUp),
    ];
    store.record_attempts(&attempts, Duration::ZERO).await.expect("recorded");
    store.endpoint_health().await.expect("read");
    store.review_endpoints(1).await.expect("reviewed");
    store.give_back(&[(back.delivery, back.claim)]).await.expect("given back");
    let page = DeliveryPage { endpoint, status: None, after: None, limit: 10 };
    store.deliveries(page).await.expect("read");
    store.purge_deliveries(Duration::ZERO, 10).await.expect("purged");
    store.redeliver(endpoint, again.delivery).await.expect("asked");
    let mut page = ReplayPage { endpoint, from: now, to: Timestamp::MAX, after: None, limit: 1 };
    page.after = store.replay(page).await.expect("replayed").next;
    store.replay(page).await.expect("replayed");
    store.pending_deliveries().await.expect("counted");
    end_of_webhooks(store, endpoint).await;
}

/// Calls the methods that purge, backfill and delete.
async fn end_of_webhooks(store: &dyn Database, endpoint: EndpointId) {
    store.purge_disabled(Duration::ZERO, 10).await.expect("purged");
    let new = NewDelivery {
        endpoint_id: endpoint.uuid(),
        event_id: Uuid::now_v7(),
        kind: EventType::Depleted,
        event_at: Timestamp::UNIX_EPOCH,
        body: "{}".into(),
        trace: None,
        refused: None,
    };
    store.backfill(endpoint, &[new]).await.expect("enqueued");
    store.delete_endpoint(endpoint, 1).await.expect("deleted");
    store.continue_deletion(1).await.expect("deleted");
    store.delete_endpoint(endpoint, 10).await.expect("deleted");
}

async fn logged(api: &Api, part: &str) -> i64 {
    let sql = format!("SELECT CAST(COUNT(*) AS CHAR) FROM mysql.general_log WHERE argument LIKE '%{part}%'");
    super::ask_root(&api.books, &sql).await
}

/// A statement without its values.
fn shape(statement: &str) -> String {
    let mut shape = String::new();
    let mut quoted = false;
    for character in statement.chars() {
        match character {
            '\'' => quoted = !quoted,
            _ if quoted || character.is_ascii_digit() => {}
            _ => shape.push(character),
        }
    }
    shape.split_whitespace().collect::<Vec<_>>().join(" ").replace(", ", "").replace("x-", "")
}

/// Asserts that no statement reads a whole table or examines more than a few rows.
async fn explained(books: &Books, statements: &BTreeMap<String, String>, rows: i64) {
    assert!(statements.len() >= 35, "{} {statements:#?}", statements.len());
    let mut claims = 0;
    let mut root = books.root().await;
    sqlx::raw_sql(AssertSqlSafe(format!("USE {}", books.name()))).execute(&mut root).await.expect("used");
    for statement in statements.values() {
        let plan = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {statement}"))).fetch_all(&mut root).await;
        for step in plan.unwrap_or_else(|error| panic!("{statement}: {error}")) {
            let text = |name: &str| step.try_get_unchecked::<Option<String>, _>(name).ok().flatten();
            let (kind, key) = (text("type"), text("key"));
            // A step without a table is a constant, or was answered by the index during planning.
            let Some(kind) = kind else { continue };
            let by_index =
                ["const", "eq_ref", "ref", "range", "system"].contains(&kind.as_str()) && key.is_some();
            // Unpublished events and pages of resources are read in the order of an index.
            let in_order = kind == "index" && statement.contains("LIMIT");
            // The purge may read the whole table if it has only a few rows.
            let few = rows < MILLION && statement.starts_with("DELETE");
            // Blocked keys are few, so the whole table is counted.
            let blocked = statement.contains("COUNT(*)") && statement.contains("FROM outbox_blocked");
            // A table that a part of the statement made: that part has a step of its own.
            let derived = text("table").is_some_and(|table| table.starts_with("<derived"));
            assert!(
                by_index || in_order || few || blocked || derived,
                "with {rows} rows, {kind} by {key:?}: {statement}"
            );
            if statement.contains("SKIP LOCKED") {
                // The index covers endpoint, status and time, so rows that do not match are not locked.
                let found = (text("key"), text("key_len"));
                assert_eq!(
                    found,
                    (Some("webhook_deliveries_due".to_owned()), Some("36".to_owned())),
                    "{statement}"
                );
                assert!(!text("Extra").unwrap_or_default().contains("filesort"), "{statement}");
                claims += 1;
            }
            let looked_at: u64 = text("rows").and_then(|rows| rows.parse().ok()).unwrap_or(0);
            let counted = statement.contains("COUNT(*)");
            // A read in the order of the index stops at the limit.
            let limited =
                statement.contains(" LIMIT ") && !text("Extra").unwrap_or_default().contains("filesort");
            assert!(looked_at < 2_000 || counted || limited, "{looked_at} rows are looked at: {statement}");
        }
    }
    assert!(claims > 0, "a claim was explained");
}

/// A million committed reservations of other resources, with their events, published.
async fn fill(books: &Books) {
    // They have only the events that the plans depend on.
    books.expect_damage();
    books
        .tamper(
            "CREATE TABLE digits (n INT PRIMARY KEY); INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
            CREATE TABLE numbers (n INT PRIMARY KEY);
            INSERT INTO numbers SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 100000 * f.n
                FROM digits a, digits b, digits c, digits d, digits e, digits f;
            INSERT INTO resources SELECT CONCAT('old-', LPAD(n, 4, '0')), 1000000000, 999999000, 1001, 'NONE', 1, 1
                FROM numbers WHERE n < 1000;
            INSERT INTO reservations (token, item_no, resource_id, quantity, status, version, created_at, expires_at,
                updated_at, idempotency_key, fingerprint)
                SELECT UNHEX(CONCAT('018F', LPAD(HEX(n), 12, '0'), '7000800000000000')), 0,
                    CONCAT('old-', LPAD(n % 1000, 4, '0')), 1, 'COMMITTED', 1, n, n, n, MD5(n), UNHEX(MD5(n))
                FROM numbers;
            INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at, published_at)
                SELECT UNHEX(MD5(n)), n % 64, CONCAT('old-', n), 1, 'bespeak.stock.none.v1', '{}', n, n FROM numbers;
            INSERT INTO webhook_endpoints (id, url, secret, created_at, updated_at)
                SELECT UNHEX(MD5(n)), 'https://example.com/', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 1, 1
                FROM numbers WHERE n < 20;
            INSERT INTO webhook_deliveries (endpoint_id, event_id, type, event_at, payload, status, attempts,
                created_at, updated_at, finished_at)
                SELECT UNHEX(MD5(n % 20)), UNHEX(MD5(n)), 'bespeak.stock.none.v1', n, '{}', 'DELIVERED', 1, n, n,
                    4102444800000000 FROM numbers WHERE n < 200000;
            UPDATE retention SET kept_since = 1000001;
            DROP TABLE digits; DROP TABLE numbers;
            ANALYZE TABLE resources, reservations, outbox, webhook_endpoints, webhook_deliveries",
        )
        .await;
}
