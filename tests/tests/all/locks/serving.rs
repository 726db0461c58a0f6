//! Strategies with a distributed lock in serving processes: nothing is oversold, whatever happens to the locks (I11).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespeak::dispatch::{DispatchError, Strategy};
use bespeak_tests::{Api, Books, Client, Nodes, Server, each_store};
use serde_json::json;

use super::{app, insist, stock};

each_store!(shedlock_sells_each_unit_once, redlock_sells_each_unit_once);

async fn shedlock_sells_each_unit_once(books: Books) {
    sells_each_unit_once(books, "shedlock", "").await;
}

async fn redlock_sells_each_unit_once(books: Books) {
    let nodes = Nodes::start().await;
    sells_each_unit_once(books, "redlock", &nodes.urls()).await;
}

/// Two processes and 120 clients compete for 30 units of each of two resources.
async fn sells_each_unit_once(books: Books, strategy: &str, redis: &str) {
    let settings = [
        ("BESPEAK_STRATEGY", strategy),
        ("BESPEAK_EXPERIMENTAL", "true"),
        ("BESPEAK_REDIS_URLS", redis),
        ("BESPEAK_LOCK_TIMEOUT_MS", "60000"),
        ("BESPEAK_LOCK_NODE_TIMEOUT_MS", "2500"),
    ];
    let servers = [Server::start(&books, &settings).await, Server::start(&books, &settings).await];
    servers[0].stock("a", 30).await;
    servers[1].stock("b", 30).await;
    let servers = Arc::new(servers);
    let clients = (0..120).map(|n| {
        let servers = servers.clone();
        tokio::spawn(async move {
            let items = json!([{"resourceId": if n % 3 == 0 { "b" } else { "a" }, "quantity": 1}]);
            let both = json!([{"resourceId": "b", "quantity": 1}, {"resourceId": "a", "quantity": 1}]);
            let body = json!({"items": if n % 3 == 1 { both } else { items }, "ttlSeconds": 600});
            let (key, body) = (format!("client-{n}"), body.to_string());
            let headers = [("idempotency-key", key.as_str())];
            let (status, answer) = loop {
                let sent = servers[n % 2].ask(http::Method::POST, "/api/v1/reserve", &headers, &body);
                // A client that loses too often by its version gets 503 and retries.
                match sent.await {
                    (503, _) => {}
                    answered => break answered,
                }
            };
            assert!(matches!(status, 200 | 409), "{answer}");
            if status == 200 && n % 5 == 0 {
                servers[n % 2].act("release", answer["token"].as_str().expect("a token")).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
    books.assert_consistent().await;
    let sum = |metric: &'static str| {
        let servers = servers.clone();
        async move { servers[0].metric(metric).await + servers[1].metric(metric).await }
    };
    assert!(sum("bespeak_lock_acquisitions_total").await >= 122.0);
    assert!(sum("bespeak_lock_waits_total").await > 0.0, "{strategy}: no lock was contended");
    assert!(sum("bespeak_lock_wait_seconds_count").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_lock_majority_are_503() {
    let mut nodes = Nodes::start().await;
    let urls = nodes.urls();
    let settings = [
        ("BESPEAK_STRATEGY", "redlock"),
        ("BESPEAK_EXPERIMENTAL", "true"),
        ("BESPEAK_REDIS_URLS", urls.as_str()),
        ("BESPEAK_LOCK_NODE_TIMEOUT_MS", "300"),
    ];
    let api = Api::with(Books::mysql().await, &settings, None).await;
    api.stock("seat", 10).await;
    let token = api.hold("before", "seat", 1).await;
    for node in &mut nodes.nodes[..2] {
        node.kill().await.expect("killed");
    }
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
    let refused = [api.reserve("during", &body).await, api.act("release", &token).await];
    for reply in refused {
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
    }
    assert_eq!(api.available("seat").await, 9, "a refused request changes nothing");
    // A commit changes no stock and takes no lock
    assert_eq!(api.act("commit", &token).await.status, 200);
    // The same holds if all nodes exceed the timeout
    for node in &mut nodes.nodes[..2] {
        node.restart().await.expect("restarted");
    }
    for switch in &nodes.switches {
        switch.set_latency(Duration::from_secs(1));
    }
    assert_eq!(api.reserve("during", &body).await.status, 503);
    for switch in &nodes.switches {
        switch.set_latency(Duration::ZERO);
    }
    bespeak_tests::until("locks can be taken again", async || {
        api.reserve("during", &body).await.status == 200
    })
    .await;
    assert_eq!(api.available("seat").await, 8);
    api.books.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_lock_times_out() {
    let books = Books::mysql().await;
    let settings = [("BESPEAK_LOCK_TIMEOUT_MS", "100")];
    let app = app(&books.url(), Strategy::Shedlock, &settings).await;
    stock(&app, "seat", 1).await;
    books
        .tamper(
            "UPDATE leases SET owner = 0x0123456789abcdef0123456789abcdef, expires_at = 3600000000
                + TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
        )
        .await;
    let refused = super::hold(&app, "late", "seat").await;
    assert!(matches!(refused, Err(DispatchError::Lock(_))), "{refused:?}");
    let counts = app.lock_counts().expect("a lock");
    assert_eq!((counts.attempts, counts.waited, counts.timed_out, counts.lost), (2, 1, 1, 0));
    // Once the row is deleted, the lock is free
    books.tamper("DELETE FROM leases WHERE name = 'lock/resource/seat'").await;
    assert!(super::hold(&app, "late", "seat").await.expect("answered"));
}

/// Locks vanish again and again while 80 clients of two processes compete for 20 units. Under the guard this has no
/// effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptying_nodes_under_load_oversells_nothing() {
    let (nodes, books) = (Arc::new(Nodes::start().await), Books::mysql().await);
    let urls = nodes.urls();
    let settings = [
        ("BESPEAK_REDIS_URLS", urls.as_str()),
        ("BESPEAK_LOCK_TIMEOUT_MS", "60000"),
        ("BESPEAK_LOCK_NODE_TIMEOUT_MS", "2500"),
    ];
    let one = app(&books.url(), Strategy::Redlock, &settings).await;
    let apps = [one, app(&books.url(), Strategy::Redlock, &settings).await];
    stock(&apps[0], "seat", 20).await;
    let over = Arc::new(AtomicBool::new(false));
    let (flushed, ended) = (nodes.clone(), over.clone());
    let flushing = tokio::spawn(async move {
        let mut times = 0;
        while !ended.load(Ordering::Relaxed) {
            flushed.flush().await;
            times += 1;
        }
        times
    });
    let clients = (0..80).map(|n| {
        let app = apps[n % 2].clone();
        tokio::spawn(async move { insist(&app, &format!("client-{n}"), "seat").await })
    });
    let mut granted = 0;
    for client in clients.collect::<Vec<_>>() {
        granted += usize::from(client.await.expect("no panic"));
    }
    over.store(true, Ordering::Relaxed);
    assert!(flushing.await.expect("no panic") > 1);
    assert_eq!(granted, 20);
    books.assert_consistent().await;
    let lost: u64 = apps.iter().filter_map(|app| app.lock_counts()).map(|counts| counts.lost).sum();
    assert!(lost > 0, "no lock was lost, so the test proves nothing");
}
