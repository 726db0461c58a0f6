//! A database that crashes, refuses connections or writes, or disagrees with a server about the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespeak_lab::load::{self, Target};
use bespeak_services::Mysql;
use bespeak_tests::{Books, Client, Server, until};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::Connection;

use super::{insist, order};

async fn own_server(options: &[&str]) -> Mysql {
    Mysql::start_own(options).await.unwrap_or_else(|missing| panic!("{missing}"))
}

/// A client that holds again and again under new keys until it is stopped; returns the keys and tokens of what was
/// answered 200, and the keys of what was answered 503.
async fn client(
    mut connection: load::Connection,
    client: usize,
    stop: Arc<AtomicBool>,
    away: Arc<AtomicUsize>,
) -> (Vec<(String, String)>, Vec<String>) {
    let (mut held, mut open) = (Vec::new(), Vec::new());
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{client}-{turn}");
        let headers = [("idempotency-key", key.as_str())];
        let body = order(&["seat"]).to_string();
        let answer = connection
            .send(Method::POST, "/api/v1/reserve", &headers, body.into())
            .await
            .expect("the server itself keeps running");
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        match (answer.status.as_u16(), json["token"].as_str()) {
            (200, Some(token)) => held.push((key, token.to_owned())),
            (503, None) => {
                away.fetch_add(1, Ordering::Relaxed);
                open.push(key);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    (held, open)
}

/// I4, I5: the database is killed under load and started again. The server answers 503 meanwhile and recovers by
/// itself, and every hold that was answered 200 exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_database_loses_no_acknowledged_hold() {
    let mut database = own_server(&[]).await;
    let books = Books::on(&database).await;
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 1_000_000).await;
    let (stop, away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for client in 0..32 {
        tasks.push(tokio::spawn(self::client(server.connect().await, client, stop.clone(), away.clone())));
    }
    until("the load is under way", || async { books.count("SELECT COUNT(*) FROM reservations").await > 500 })
        .await;
    database.kill().await.expect("killed");
    until("the server is not ready", || async {
        server.ask(Method::GET, "/health/ready", &[], "").await.0 == 503
    })
    .await;
    assert_eq!(server.ask(Method::GET, "/health/live", &[], "").await.0, 200);
    until("clients get 503", || async { away.load(Ordering::Relaxed) > 10 }).await;
    database.restart().await.expect("restarted");
    until("the server is ready", || async {
        server.ask(Method::GET, "/health/ready", &[], "").await.0 == 200
    })
    .await;
    let before = books.count("SELECT COUNT(*) FROM reservations").await;
    until("clients are served", || async {
        books.count("SELECT COUNT(*) FROM reservations").await > before + 300
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut keys = 0;
    for task in tasks {
        let (held, open) = task.await.expect("no panic");
        keys += held.len() + open.len();
        for (key, token) in held.iter().step_by(held.len() / 5 + 1) {
            assert_eq!(insist(&server.url, key, &order(&["seat"])).await, (200, token.clone()));
        }
        for key in &open {
            assert_eq!(insist(&server.url, key, &order(&["seat"])).await.0, 200);
        }
    }
    let audit = books.audit().await;
    assert!(audit.is_clean(), "{audit:#?}");
    assert_eq!(audit.reservations, keys as u64);
    let logged = server.logged("ERROR");
    assert!(
        (1..=4).contains(&logged.len()),
        "an outage is logged when it begins, not for each request: {logged:?}"
    );
}

/// A database that accepts no more connections: requests that need one are answered 503, and served once one is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_connections_are_503() {
    const RESOURCES: usize = 30;
    let database = own_server(&["--max-connections=10"]).await;
    let books = Books::on(&database).await;
    let server = Server::start(&books, &[]).await;
    let names: Vec<String> = (0..RESOURCES).map(|n| format!("r{n}")).collect();
    for name in &names {
        server.stock(name, 1_000_000).await;
    }
    let mut hogs = Vec::new();
    while let Ok(hog) = books.customer().await {
        hogs.push(hog);
    }
    // The server may use its idle connections, which are too few for all its lanes at once.
    let refused = AtomicUsize::new(0);
    until("a request finds no connection", || async {
        let orders = names.iter().map(|name| async {
            let (key, body) = (uuid::Uuid::now_v7().to_string(), order(&[name]).to_string());
            let key = [("idempotency-key", key.as_str())];
            match server.ask(Method::POST, "/api/v1/reserve", &key, &body).await {
                (200, _) => {}
                (503, problem) => {
                    assert_eq!(problem["type"], "unavailable");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                other => panic!("{other:?}"),
            }
        });
        futures_util::future::join_all(orders).await;
        refused.load(Ordering::Relaxed) > 0
    })
    .await;
    assert_eq!(server.ask(Method::GET, "/health/live", &[], "").await.0, 200);
    let logged = server.logged("ERROR");
    assert!(logged.iter().any(|line| line.contains("no more connections")), "{logged:?}");
    for hog in hogs {
        hog.close().await.expect("closed");
    }
    for name in &names {
        assert_eq!(insist(&server.url, &format!("again-{name}"), &order(&[name])).await.0, 200);
    }
    books.assert_consistent().await;
}

/// A read-only database, such as a replica after a failover: writes are answered 503, and reads succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_503() {
    let database = own_server(&[]).await;
    let books = Books::on(&database).await;
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    let mut root = books.root().await;
    sqlx::raw_sql("SET GLOBAL read_only = 1").execute(&mut root).await.expect("set");
    let key = [("idempotency-key", "k")];
    let body = order(&["seat"]).to_string();
    let (status, problem) = server.ask(Method::POST, "/api/v1/reserve", &key, &body).await;
    assert_eq!((status, &problem["type"]), (503, &json!("unavailable")));
    // Its last result serves for a second.
    let ready = async || server.ask(Method::GET, "/health/ready", &[], "").await.0;
    until("it is not ready", async || ready().await == 503).await;
    let (_, seat) = server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await;
    assert_eq!(seat["availableStock"], 10);
    assert!(
        server.logged("ERROR").iter().any(|line| line.contains("read-only")),
        "{:?}",
        server.logged("ERROR")
    );
    sqlx::raw_sql("SET GLOBAL read_only = 0").execute(&mut root).await.expect("set");
    assert_eq!(server.ask(Method::POST, "/api/v1/reserve", &key, &body).await.0, 200);
    until("it is ready", async || ready().await == 200).await;
    books.assert_consistent().await;
}

/// I6: the clock of the database decides. A server whose own clock is ten minutes ahead ends holds neither early nor
/// late, alone and together with a server whose clock is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_a_server_does_not_matter() {
    let books = Books::mysql().await;
    let wrong = Server::start_with_wrong_clock(&books, Duration::from_secs(600)).await;
    let right = Server::start(&books, &[]).await;
    wrong.stock("seat", 2).await;
    let held = |server: &Server, key: &'static str, ttl: u64| {
        let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": ttl}).to_string();
        let url = server.url.clone();
        async move {
            let target = Target::new(&url).expect("a base URL");
            let headers = [("idempotency-key", key)];
            let mut connection = target.connect().await.expect("connected");
            let answer = connection.send(Method::POST, "/api/v1/reserve", &headers, body.into()).await;
            let answer = answer.expect("answered");
            assert_eq!(answer.status, 200);
            serde_json::from_slice::<Value>(&answer.body).expect("JSON")
        }
    };
    let long = held(&wrong, "long", 60).await;
    let ends: Timestamp = long["expiresAt"].as_str().expect("a time").parse().expect("a time");
    let left = ends.duration_since(Timestamp::now()).as_secs();
    assert!((50..=60).contains(&left), "{left} s left of 60");
    let short = held(&right, "short", 1).await;
    // Both timers run; the hold of a minute must outlive both.
    until("the short hold has expired", || async {
        let path = format!("/api/v1/reservations/{}", short["token"].as_str().expect("a token"));
        wrong.ask(Method::GET, &path, &[], "").await.1["status"] == "EXPIRED"
    })
    .await;
    let expired = "SELECT COUNT(*) FROM reservations WHERE status = 'EXPIRED'";
    until("the expiry is written", || async { books.count(expired).await == 1 }).await;
    let early = "SELECT COUNT(*) FROM reservations WHERE status = 'EXPIRED' AND updated_at < expires_at";
    assert_eq!(books.count(early).await, 0);
    let commit = json!({"token": long["token"]}).to_string();
    assert_eq!(wrong.ask(Method::POST, "/api/v1/commit", &[], &commit).await.0, 200);
    books.assert_consistent().await;
}
