//! Two thousand clients compete for a hundred units through real sockets.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bespeak_tests::{Books, Client, Server, each_store, until};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

const CLIENTS: usize = 2_000;
const UNITS: usize = 100;

each_store!(lanes_sells_each_unit_once, pessimistic_sells_each_unit_once, two_servers_sell_each_unit_once);

async fn lanes_sells_each_unit_once(books: Books) {
    crowd(books, "lanes").await;
}

async fn pessimistic_sells_each_unit_once(books: Books) {
    crowd(books, "pessimistic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditional_sells_each_unit_once() {
    crowd(Books::mysql().await, "conditional").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn optimistic_sells_each_unit_once() {
    crowd(Books::mysql().await, "optimistic").await;
}

async fn crowd(books: Books, strategy: &str) {
    let server = Server::start(&books, &[("BESPEAK_STRATEGY", strategy)]).await;
    server.stock("seat", UNITS as u64).await;
    let start = Arc::new(Barrier::new(CLIENTS));
    // With one transaction per command, on a slow machine some lose by their version or wait too long for the lock.
    let may_lose = strategy != "lanes";
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = server.connect().await;
        let start = start.clone();
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 600}).to_string();
            let key = format!("client-{client}");
            let headers = [("idempotency-key", key.as_str())];
            loop {
                let body = body.clone().into();
                let sent = connection.send(Method::POST, "/api/v1/reserve", &headers, body).await;
                let answer = sent.expect("answered");
                // The client retries under the same key.
                if answer.status == 503 && may_lose {
                    continue;
                }
                let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                return (answer.status.as_u16(), json["token"].as_str().map(str::to_owned));
            }
        }));
    }
    let mut tokens = HashSet::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            (200, Some(token)) => assert!(tokens.insert(token), "a token was given twice"),
            (409, None) => refused += 1,
            other => panic!("{strategy}: {other:?}"),
        }
    }
    assert_eq!((tokens.len(), refused), (UNITS, CLIENTS - UNITS), "{strategy}");
    let (_, seat) = server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await;
    assert_eq!(seat["availableStock"], 0);
    books.assert_consistent().await;
    assert_eq!(server.logged("ERROR"), Vec::<String>::new());
    assert_eq!(server.stop().await, 0);
}

async fn two_servers_sell_each_unit_once(books: Books) {
    let servers = [Server::start(&books, &[]).await, Server::start(&books, &[]).await];
    servers[0].stock("a", 60).await;
    servers[1].stock("b", 60).await;
    let mut tasks = Vec::new();
    for client in 0..120_usize {
        let mut connection = servers[client % 2].connect().await;
        tasks.push(tokio::spawn(async move {
            // Overlapping items, in different orders.
            let (first, second) = if client % 3 == 0 { ("a", "b") } else { ("b", "a") };
            let items = json!([{"resourceId": first, "quantity": 1}, {"resourceId": second, "quantity": 1}]);
            let body = json!({"items": items, "ttlSeconds": 600});
            let key = format!("client-{client}");
            loop {
                let headers = [("idempotency-key", key.as_str())];
                let body = body.to_string().into();
                let sent = connection.send(Method::POST, "/api/v1/reserve", &headers, body).await;
                let answer = sent.expect("answered");
                match answer.status.as_u16() {
                    // The other server held the file's lock for too long: retry.
                    503 => {}
                    status => return status,
                }
            }
        }));
    }
    let mut accepted = 0;
    for task in tasks {
        let status = tokio::time::timeout(Duration::from_secs(60), task)
            .await
            .expect("no stuck request")
            .expect("no panic");
        accepted += usize::from(status == 200);
        assert!(matches!(status, 200 | 409), "{status}");
    }
    assert_eq!(accepted, 60);
    books.assert_consistent().await;
    let ready = || async { servers[0].ask(Method::GET, "/health/ready", &[], "").await.0 == 200 };
    until("both are idle", ready).await;
}
