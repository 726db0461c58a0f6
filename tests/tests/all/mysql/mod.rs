//! Faults that only a database on a server has: slowness, cut connections, deadlock victims, a crash of its own.

mod accounts;
mod cancelled;
mod connections;
mod guards;
mod outages;
mod plans;
mod processes;
mod read_only;
mod readers;
mod schema;
mod statements;
mod webhooks;

use bespeak::{
    engine::{
        Command, Define, IdempotencyKey, Item, Items, Limits, Quantity, ReserveDraft, ResourceId, Token,
    },
    store::{CommitMode, Store},
};
use bespeak_services::Proxy;
use bespeak_tests::Books;
use http::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

fn id(name: &str) -> ResourceId {
    ResourceId::new("id", name).expect("valid")
}

fn define(name: &str, total: u64) -> Command {
    Command::Define(Define { resource_id: id(name), total, fulfilment: None })
}

/// A command that holds one unit of each of these resources for an hour.
fn hold(key: &str, names: &[&str]) -> Command {
    let limits = Limits::default();
    let one = |name: &&str| Item { resource_id: id(name), quantity: Quantity::new("q", 1).expect("valid") };
    let draft = ReserveDraft {
        items: Items::new(names.iter().map(one).collect(), &limits).expect("valid"),
        ttl: limits.ttl("ttl", Some(3_600)).expect("valid"),
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(key).expect("valid"),
    };
    Command::Reserve(draft.with_token(Token::from_uuid(Uuid::now_v7())))
}

async fn stock(store: &dyn Store, name: &str, total: u64) {
    store.execute(&[define(name, total)], CommitMode::Commit).await.expect("defined");
}

/// A proxy in front of the server of these books, and their URL through it.
fn through_proxy(books: &Books) -> (Proxy, String) {
    let proxy = Proxy::start(books.address()).expect("a proxy");
    let url = books.url_at("127.0.0.1", proxy.address().port());
    (proxy, url)
}

/// Runs a query as the administrator; returns the number in its last column.
async fn ask_root(books: &Books, sql: &str) -> i64 {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut books.root().await).await;
    let row = row.expect("one row");
    let text: String = row.try_get_unchecked(row.len() - 1).expect("a column");
    text.parse().expect("a number")
}

/// Runs a query about InnoDB's current transactions.
async fn ask_innodb(books: &Books, sql: &str) -> i64 {
    // InnoDB answers from a copy, which it refreshes only if it was not read for a tenth of a second.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    ask_root(books, sql).await
}

/// The number of transactions that are open in this database; the databases of other tests are on the same server.
async fn open_transactions(books: &Books) -> i64 {
    let sql = format!("SELECT CAST(COUNT(*) AS CHAR) FROM {}", transactions(books));
    ask_innodb(books, &sql).await
}

/// InnoDB's transactions in this database, as a table to select from.
fn transactions(books: &Books) -> String {
    format!(
        "information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
        AND p.db = '{}'",
        books.name()
    )
}

/// Retries a reserve under its key, on new connections, until it is answered 200 or 409; returns the status and the
/// token.
async fn insist(url: &str, key: &str, body: &Value) -> (u16, String) {
    let target = bespeak_lab::load::Target::new(url).expect("a base URL");
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let Ok(mut connection) = target.connect().await else { continue };
        let headers = [("idempotency-key", key)];
        let sent = connection.send(Method::POST, "/api/v1/reserve", &headers, body.to_string().into()).await;
        let Ok(answer) = sent else { continue };
        match answer.status.as_u16() {
            503 => assert!(answer.headers.contains_key("retry-after")),
            status => {
                assert!(matches!(status, 200 | 409), "{key}: {status} {:?}", answer.body);
                let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                return (status, json["token"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
}

/// The body of a reserve for one unit of each of these resources.
fn order(names: &[&str]) -> Value {
    let items: Vec<_> = names.iter().map(|name| json!({"resourceId": name, "quantity": 1})).collect();
    json!({"items": items, "ttlSeconds": 3600})
}
