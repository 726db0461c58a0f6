//! Faults of processes and disks.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespeak_tests::{Books, Client, Server, each_store, until};
use http::Method;
use serde_json::{Value, json};

each_store!(
    a_server_killed_under_load_loses_no_acknowledged_hold,
    a_server_stopped_under_load_answers_every_accepted_request,
    locked_stock_is_503_until_it_is_free,
    a_full_queue_is_503_with_retry_after,
    a_damaged_record_fails_alone,
);

fn order(quantity: u64) -> String {
    json!({"resourceId": "seat", "quantity": quantity, "ttlSeconds": 3600}).to_string()
}

/// I4, I5: a server is killed under load and started again, several times. Every hold that was answered 200 exists,
/// and a retry under its key returns the same token.
async fn a_server_killed_under_load_loses_no_acknowledged_hold(books: Books) {
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let mut unanswered: Vec<String> = Vec::new();
    for life in 0..3 {
        let server = Server::start(&books, &[]).await;
        server.stock("seat", 1_000_000).await;
        let answered = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for client in 0..64 {
            let mut connection = server.connect().await;
            let answered = answered.clone();
            tasks.push(tokio::spawn(async move {
                let mut held = Vec::new();
                for turn in 0.. {
                    let key = format!("{life}-{client}-{turn}");
                    let headers = [("idempotency-key", key.as_str())];
                    let Ok(answer) =
                        connection.send(Method::POST, "/api/v1/reserve", &headers, order(1).into()).await
                    else {
                        return (held, Some(key));
                    };
                    assert_eq!(answer.status, 200);
                    let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                    held.push((key, json["token"].as_str().expect("a token").to_owned()));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                (held, None)
            }));
        }
        until("the load is under way", || async { answered.load(Ordering::Relaxed) > 500 }).await;
        server.kill();
        for task in tasks {
            let (held, cut) = task.await.expect("no panic");
            acknowledged.extend(held);
            unanswered.extend(cut);
        }
        books.assert_consistent().await;
    }

    let server = Server::start(&books, &[]).await;
    let mut connection = server.connect().await;
    for (key, token) in &acknowledged {
        let headers = [("idempotency-key", key.as_str())];
        let answer = connection
            .send(Method::POST, "/api/v1/reserve", &headers, order(1).into())
            .await
            .expect("answered");
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(json["token"].as_str(), Some(token.as_str()), "{key}");
        assert_eq!(answer.headers["idempotent-replayed"], "true");
    }
    // These may or may not have been committed. Two retries take stock once.
    let mut tokens = std::collections::HashSet::new();
    for key in unanswered.iter().chain(&unanswered) {
        let headers = [("idempotency-key", key.as_str())];
        let answer = connection
            .send(Method::POST, "/api/v1/reserve", &headers, order(1).into())
            .await
            .expect("answered");
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        tokens.insert(json["token"].as_str().expect("a token").to_owned());
    }
    assert_eq!(tokens.len(), unanswered.len());
    let (_, seat) = server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await;
    let taken =
        seat["totalStock"].as_u64().expect("a number") - seat["availableStock"].as_u64().expect("a number");
    assert_eq!(taken, (acknowledged.len() + unanswered.len()) as u64);
    books.assert_consistent().await;
}

/// A server that receives SIGTERM answers every request that it has accepted.
async fn a_server_stopped_under_load_answers_every_accepted_request(books: Books) {
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 1_000_000).await;
    let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for client in 0..32 {
        let mut connection = server.connect().await;
        let (stopping, answered) = (stopping.clone(), answered.clone());
        tasks.push(tokio::spawn(async move {
            let mut held = 0;
            for turn in 0.. {
                let key = format!("{client}-{turn}");
                let headers = [("idempotency-key", key.as_str())];
                match connection.send(Method::POST, "/api/v1/reserve", &headers, order(1).into()).await {
                    Ok(answer) if answer.status == 200 => held += 1,
                    Ok(answer) => assert!(stopping.load(Ordering::Relaxed), "{}", answer.status),
                    Err(_closed) => break,
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            held
        }));
    }
    until("the load is under way", || async { answered.load(Ordering::Relaxed) > 200 }).await;
    stopping.store(true, Ordering::Relaxed);
    assert_eq!(server.stop().await, 0, "a clean exit");
    let mut held = 0;
    for task in tasks {
        held += task.await.expect("no panic");
    }
    let audit = books.audit().await;
    assert!(audit.is_clean(), "{audit:#?}");
    assert_eq!(audit.reservations, held, "each hold was answered, and each answer was a hold");
}

/// Stock that another transaction keeps locked is answered 503, and is sold again once the lock is free. SQLite locks
/// the whole file, so the server is not ready meanwhile; MySQL locks only the rows.
async fn locked_stock_is_503_until_it_is_free(books: Books) {
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 5).await;
    let lock = books.block_writers().await;
    let key = [("idempotency-key", "k")];
    let (status, problem) = server.ask(Method::POST, "/api/v1/reserve", &key, &order(1)).await;
    assert_eq!((status, &problem["type"]), (503, &json!("unavailable")));
    let ready = server.ask(Method::GET, "/health/ready", &[], "").await.0;
    assert_eq!(ready, if books.is_file() { 503 } else { 200 });
    assert_eq!(server.ask(Method::GET, "/health/live", &[], "").await.0, 200);
    assert_eq!(
        server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await.1["availableStock"],
        5,
        "reads go on"
    );
    lock.release().await;
    assert_eq!(server.ask(Method::POST, "/api/v1/reserve", &key, &order(1)).await.0, 200);
    // The result of the last check serves for a second.
    until("it is ready", async || server.ask(Method::GET, "/health/ready", &[], "").await.0 == 200).await;
    let level = if books.is_file() { "ERROR" } else { "WARN" };
    // The relay and the purge meet the lock as well, and log it separately.
    let mut said = server.logged(level);
    said.retain(|line| !line.contains("bespeak::events::relay") && !line.contains("old records are kept"));
    assert_eq!(said.len(), 1, "it is logged once: {said:?}");
    books.assert_consistent().await;
}

/// A full disk is answered 503 and changes nothing, and the process recovers by itself once there is space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_503_and_recovers() {
    let books = Books::sqlite();
    let server = Server::start_with_little_disk(&books, 400).await;
    server.stock("seat", 1_000_000).await;
    let hold = async |key: String| {
        server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", &key)], &order(1)).await
    };
    let mut held = 0_u64;
    let full = loop {
        let (status, problem) = hold(format!("before-{held}")).await;
        if status != 200 {
            break (status, problem["type"].clone());
        }
        held += 1;
        assert!(held < 20_000, "the disk never fills");
    };
    assert_eq!(full, (503, json!("unavailable")), "after {held} holds");
    for n in 0..5 {
        assert_eq!(hold(format!("full-{n}")).await.0, 503);
    }
    let (_, seat) = server.ask(Method::GET, "/api/v1/resources/seat", &[], "").await;
    assert_eq!(seat["availableStock"].as_u64(), Some(1_000_000 - held), "reads go on, and nothing changed");

    let lifted = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), "--fsize=unlimited"])
        .status()
        .expect("prlimit (package util-linux) can be run");
    assert!(lifted.success());
    assert_eq!(hold("full-0".to_owned()).await.0, 200, "it recovers by itself");
    assert_eq!(server.ask(Method::GET, "/health/ready", &[], "").await.0, 200);
    let audit = books.audit().await;
    assert!(audit.is_clean(), "{audit:#?}");
    assert_eq!(audit.reservations, held + 1);
    assert!(!server.logged("ERROR").is_empty(), "the outage must be logged");
}

/// Requests beyond the capacity of the queue get 503 with `Retry-After`, and accepted requests are answered.
async fn a_full_queue_is_503_with_retry_after(books: Books) {
    let server = Server::start(&books, &[("BESPEAK_LANE_QUEUE", "8"), ("BESPEAK_LANE_BATCH", "4")]).await;
    server.stock("seat", 1_000).await;
    // Commands queue up while another transaction has the write lock.
    let lock = books.block_writers().await;
    let mut tasks = Vec::new();
    for client in 0..40 {
        let mut connection = server.connect().await;
        tasks.push(tokio::spawn(async move {
            let key = format!("{client}");
            let headers = [("idempotency-key", key.as_str())];
            let answer = connection
                .send(Method::POST, "/api/v1/reserve", &headers, order(1).into())
                .await
                .expect("answered");
            let waits = answer.headers.get("retry-after").is_some();
            (answer.status.as_u16(), waits)
        }));
    }
    let refused = Arc::new(AtomicUsize::new(0));
    until("the queue is full", || async { tasks.iter().filter(|task| task.is_finished()).count() >= 28 })
        .await;
    lock.release().await;
    let mut held = 0;
    for task in tasks {
        match tokio::time::timeout(Duration::from_secs(20), task).await.expect("answered").expect("no panic")
        {
            (200, _) => held += 1,
            (503, true) => drop(refused.fetch_add(1, Ordering::Relaxed)),
            other => panic!("{other:?}"),
        }
    }
    // Up to 4 were in flight (those that had arrived when the first transaction began), and 8 were in the queue.
    assert!((9..=12).contains(&held), "{held} were held");
    assert_eq!(refused.load(Ordering::Relaxed), 40 - held);
    books.assert_consistent().await;
}

/// A damaged record fails only the requests that need it, and neither those that share their transaction nor later
/// ones on the same connection.
async fn a_damaged_record_fails_alone(books: Books) {
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    let mut tokens = Vec::new();
    for n in 0..9 {
        let key = format!("{n}");
        let (_, held) =
            server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", &key)], &order(1)).await;
        tokens.push(held["token"].as_str().expect("a token").to_owned());
    }
    books.expect_damage();
    books.tamper("UPDATE reservations SET resource_id = 'no id' WHERE idempotency_key = '4'").await;
    for round in 0..3 {
        let mut tasks = Vec::new();
        for token in &tokens {
            let (mut connection, body) = (server.connect().await, json!({"token": token}).to_string());
            tasks.push(tokio::spawn(async move {
                let answer = connection
                    .send(Method::POST, "/api/v1/commit", &[], body.into())
                    .await
                    .expect("answered");
                answer.status.as_u16()
            }));
        }
        for (n, task) in tasks.into_iter().enumerate() {
            let status = task.await.expect("no panic");
            assert_eq!(
                status,
                if n == 4 { 500 } else { 200 },
                "{n} in round {round}: {:?}",
                server.logged("ERROR")
            );
        }
    }
    let logged = server.logged("ERROR");
    assert!(
        logged.iter().any(|line| line.contains(&tokens[4]) && line.contains("resource_id")),
        "{logged:?}"
    );
}
