//! Connections that a proxy cuts, slows, stalls, or answers with errors.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak_tests::{Api, Books, Client, Server};
use http::Method;
use serde_json::json;

use super::{insist, order, through_proxy};

/// COMMIT arrives and its answer is lost: the retry finds its hold, and stock is taken once. The same holds if COMMIT
/// itself is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_around_commit_take_stock_once() {
    for strategy in ["lanes", "conditional", "optimistic"] {
        let books = Books::mysql().await;
        let (proxy, url) = through_proxy(&books);
        let settings = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_STRATEGY", strategy)];
        let api = Api::with(books, &settings, None).await;
        api.stock("seat", 10).await;
        proxy.cut_after_commit(1);
        let token = api.hold("after", "seat", 1).await;
        assert_eq!((proxy.cuts(), api.available("seat").await), (1, 9), "{strategy}");
        assert_eq!(api.hold("after", "seat", 1).await, token, "a client's own retry finds it too");
        proxy.cut_before_commit(1);
        api.hold("before", "seat", 1).await;
        assert_eq!((proxy.cuts(), api.available("seat").await), (2, 8), "{strategy}");
        for (verb, status) in [("commit", "COMMITTED"), ("cancel", "CANCELLED")] {
            proxy.cut_after_commit(1);
            let done = api.act(verb, &token).await;
            assert_eq!((done.status.as_u16(), &done.json()["status"]), (200, &json!(status)), "{strategy}");
        }
        assert_eq!((proxy.cuts(), api.available("seat").await), (4, 9), "{strategy}");
        // If every COMMIT is lost, the outcome is unknown, and the client gets 503 with `Retry-After`.
        proxy.cut_before_commit(1_000);
        let reply = api.reserve("never", &order(&["seat"])).await;
        assert_eq!(reply.problem(), (503, "unavailable".to_owned()));
        assert_ne!(reply.header("retry-after"), "");
        proxy.cut_before_commit(0);
        assert_eq!(api.available("seat").await, 9);
        api.books.assert_consistent().await;
    }
}

/// Five milliseconds more per round trip change only the latency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_changes_only_the_latency() {
    let books = Books::mysql().await;
    let (proxy, url) = through_proxy(&books);
    let api = Arc::new(Api::with(books, &[("BESPEAK_DATABASE_URL", &url)], None).await);
    api.stock("seat", 150).await;
    proxy.set_latency(Duration::from_millis(5));
    let accepted = crowd(&api, 200).await;
    assert_eq!(accepted, 150);
    api.books.assert_consistent().await;
}

/// For three seconds no packet passes: every waiting request is then served, and none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_network_delays_every_request_and_repeats_none() {
    let books = Books::mysql().await;
    let (proxy, url) = through_proxy(&books);
    let server = Server::start(&books, &[("BESPEAK_DATABASE_URL", &url)]).await;
    server.stock("seat", 1_000).await;
    proxy.stall(true);
    let stalled = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..100 {
        let url = server.url.clone();
        tasks.push(tokio::spawn(async move { insist(&url, &format!("{n}"), &order(&["seat"])).await }));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.stall(false);
    for task in tasks {
        let (status, _) =
            tokio::time::timeout(Duration::from_secs(10), task).await.expect("served").expect("no panic");
        assert_eq!(status, 200);
    }
    assert!(stalled.elapsed() > Duration::from_secs(3));
    let (_, seat) = server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await;
    assert_eq!(seat["availableStock"], 900);
    books.assert_consistent().await;
}

/// Random deadlocks and lock timeouts, at every packet and inside packets, are retried and counted, and leave the books
/// consistent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_and_lock_timeouts_are_retried() {
    for strategy in ["lanes", "pessimistic", "conditional", "optimistic"] {
        let books = Books::mysql().await;
        let (proxy, url) = through_proxy(&books);
        let settings = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_STRATEGY", strategy)];
        let server = Server::start(&books, &settings).await;
        server.stock("a", 60).await;
        server.stock("b", 60).await;
        // Inside packets, each table refuses a row now and then with the error of a deadlock or a timeout.
        for (table, when) in [
            ("resources", "UPDATE"),
            ("reservations", "INSERT"),
            ("reservations", "UPDATE"),
            ("outbox", "INSERT"),
        ] {
            books
                .tamper(&format!(
                    "CREATE TRIGGER fail_{table}_{when} BEFORE {when} ON {table} FOR EACH ROW
                    BEGIN
                        IF RAND() < 0.01 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF;
                        IF RAND() < 0.01 THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205; END IF;
                    END"
                ))
                .await;
        }
        let seed = fastrand::u64(..);
        println!("{strategy}: seed {seed}");
        proxy.inject(0.1, seed);
        let mut tasks = Vec::new();
        for n in 0..100 {
            let url = server.url.clone();
            let names = if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            tasks.push(tokio::spawn(async move { insist(&url, &format!("{n}"), &order(&names)).await }));
        }
        let mut tokens = HashSet::new();
        for task in tasks {
            let answered =
                tokio::time::timeout(Duration::from_secs(60), task).await.expect("no stuck request");
            let (status, token) = answered.expect("no panic");
            if status == 200 {
                assert!(tokens.insert(token), "a token was given twice");
            }
        }
        proxy.inject(0.0, 0);
        let (_, left) = server.ask(Method::GET, "/api/v1/resources/a", &[], "").await;
        assert_eq!((tokens.len(), &left["availableStock"]), (60, &json!(0)), "{strategy}");
        let (deadlocks, timeouts) = proxy.injected();
        // Lanes send so few packets that one of the two may not occur.
        assert!(deadlocks + timeouts > 0 && (strategy == "lanes" || deadlocks.min(timeouts) > 0));
        assert!(server.metric("bespeak_store_retries_total").await > 0.0);
        books.assert_consistent().await;
    }
}

/// Sends `clients` holds at once; returns how many were accepted.
async fn crowd(api: &Arc<Api>, clients: usize) -> usize {
    let mut tasks = Vec::new();
    for n in 0..clients {
        let api = api.clone();
        tasks.push(tokio::spawn(async move { api.reserve(&format!("{n}"), &order(&["seat"])).await.status }));
    }
    let mut accepted = 0;
    for task in tasks {
        match task.await.expect("no panic").as_u16() {
            200 => accepted += 1,
            409 => {}
            other => panic!("{other}"),
        }
    }
    accepted
}
