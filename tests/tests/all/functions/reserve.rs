//! The function `reserve`: behind each gateway, frozen, without its database, and with concurrent requests.

use std::time::Duration;

use bespeak_services::Mysql;
use bespeak_tests::{Books, Client, Gateway, Lambda, TIME, answered, sample, until_within};
use serde_json::{Value, json};

use super::{open_transactions, sessions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_gets_the_same_answer() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    reserve.cars("car", 10).await;
    for gateway in Gateway::ALL {
        // Given the sample of the gateway, which holds one car
        let answer = reserve.call(&gateway.sample()).await.expect("answered");
        let (status, held) = answered(&answer);
        assert_eq!((status, &held["status"]), (200, &json!("HELD")), "{gateway:?}: {answer}");
        assert_eq!(answer["isBase64Encoded"], false, "{gateway:?}");
        let headers = [&answer["headers"], &answer["multiValueHeaders"]].map(Value::to_string).concat();
        // All samples share one key, so all but the first are replays
        assert_eq!(
            headers.contains("idempotent-replayed"),
            gateway != Gateway::HttpApi,
            "{gateway:?}: {headers}"
        );
        // A refusal is a problem document, as text
        let order = r#"{"resourceId":"nothing","quantity":1}"#;
        let answer =
            reserve.call(&gateway.event("POST", "/api/v1/reserve", "k", order)).await.expect("answered");
        let (status, problem) = answered(&answer);
        assert_eq!((status, &problem["status"]), (404, &json!(404)), "{gateway:?}: {answer}");
        let headers = [&answer["headers"], &answer["multiValueHeaders"]].map(Value::to_string).concat();
        assert!(headers.contains("application/problem+json"), "{gateway:?}: {headers}");
    }
    let (_, car) = reserve.ask(Gateway::RestApi, "GET", "/api/v1/resources/car", "", "").await;
    assert_eq!(car["availableStock"], 9);
    // A retry of a reservation that has ended is no success
    let token = reserve.hold("ended", "car").await;
    reserve.act("release", &token).await;
    let order = r#"{"resourceId":"car","quantity":1,"ttlSeconds":600}"#;
    let (status, ended) = reserve.ask(Gateway::HttpApi, "POST", "/api/v1/reserve", "ended", order).await;
    assert_eq!((status, &ended["type"]), (409, &json!("reservation-ended")), "{ended}");
    assert_eq!(ended["reservation"]["token"], token.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_queries_and_headers_arrive_unchanged() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[("BESPEAK_HTTP_BASE_PATH", "/booking")]).await;
    for id in ["a", "b", "floor/desk 1"] {
        let body = json!({"resourceId": id.replace(' ', "_"), "totalStock": 3});
        reserve.submit("/api/v1/resources", "", &body).await;
    }
    // An HTTP API puts its stage into the path, and a custom domain adds a base-path mapping
    let mut event = Gateway::HttpApi.event("GET", "/prod/booking/api/v1/resources", "", "");
    event["requestContext"]["stage"] = "prod".into();
    event["rawQueryString"] = "limit=1&after=a".into();
    let (status, page) = answered(&reserve.call(&event).await.expect("answered"));
    assert_eq!((status, page["resources"][0]["resourceId"].as_str()), (200, Some("b")), "{page}");
    let mut event = Gateway::RestApi.event("GET", "/booking/api/v1/resources", "", "");
    event["multiValueQueryStringParameters"] = json!({"limit": ["1"], "after": ["a"]});
    event["queryStringParameters"] = json!({"limit": "1", "after": "a"});
    let (status, page) = answered(&reserve.call(&event).await.expect("answered"));
    assert_eq!((status, page["resources"][0]["resourceId"].as_str()), (200, Some("b")), "{page}");
    let mut event = Gateway::Alb.event("GET", "/api/v1/resources", "", "");
    event["multiValueQueryStringParameters"] = json!({"limit": ["1"], "after": ["a"]});
    let (status, page) = answered(&reserve.call(&event).await.expect("answered"));
    assert_eq!((status, page["resources"][0]["resourceId"].as_str()), (200, Some("b")), "{page}");
    for gateway in Gateway::ALL {
        // HTTP APIs decode paths, the other gateways do not
        let path = if gateway == Gateway::HttpApi { "floor/desk_1" } else { "floor%2Fdesk_1" };
        let (status, desk) = reserve.ask(gateway, "GET", &format!("/api/v1/resources/{path}"), "", "").await;
        assert_eq!((status, desk["totalStock"].as_u64()), (200, Some(3)), "{gateway:?}: {desk}");
    }
    // A stage may have the same name as the first segment of the API's paths
    for gateway in [Gateway::HttpApi, Gateway::RestApi] {
        let path = if gateway == Gateway::HttpApi { "/api/api/v1/resources" } else { "/api/v1/resources" };
        let mut event = gateway.event("GET", path, "", "");
        event["requestContext"]["stage"] = "api".into();
        let (status, page) = answered(&reserve.call(&event).await.expect("answered"));
        assert_eq!(status, 200, "{gateway:?}: {page}");
    }
    // REST APIs pass a header with several values both as a list and as the last value
    let mut event =
        Gateway::RestApi.event("POST", "/api/v1/reserve", "k", r#"{"resourceId":"a","quantity":1}"#);
    event["multiValueHeaders"]["accept"] = json!(["text/html", "application/json"]);
    assert_eq!(answered(&reserve.call(&event).await.expect("answered")).0, 200);
}

/// A request belongs to the trace of its client, or else to that of the invocation. A gateway's own header names the
/// same trace as the invocation, with a parent further up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_carry_the_trace_of_the_client_or_the_invocation() {
    const OF_INVOCATION: &str = "SELECT COUNT(*) FROM outbox
        WHERE traceparent LIKE '00-5759e988bd862e3fe1be46a9%-53995c3f42cd8ad8-01'";
    const OF_CLIENT: &str =
        "SELECT COUNT(*) FROM outbox WHERE traceparent LIKE '00-4bf92f3577b34da6a3ce929d0e0e4736-%-01'";
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    reserve.cars("car", 10).await;
    let order = r#"{"resourceId":"car","quantity":1}"#;
    for (key, name, value) in [
        ("1", "x-amzn-trace-id", "Root=1-67a1b2c3-4d5e6f708192a3b4c5d6e7f8"),
        ("2", "user-agent", "curl"),
        ("3", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        let mut event = Gateway::HttpApi.event("POST", "/api/v1/reserve", key, order);
        event["headers"].as_object_mut().expect("headers").remove("x-amzn-trace-id");
        event["headers"][name] = value.into();
        assert_eq!(answered(&reserve.call(&event).await.expect("answered")).0, 200);
    }
    assert_eq!((books.count(OF_CLIENT).await, books.count(OF_INVOCATION).await), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_event_fails_only_its_own_invocation_of_reserve() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    reserve.cars("car", 10).await;
    for event in ["", "{", "[]", "{}", "null", "\u{0}\u{1}", r#"{"task":"all"}"#] {
        let failed = reserve.invoke(event, TIME).await.expect_err(event);
        assert!(!failed.message.is_empty(), "{event}: {failed:?}");
    }
    for name in ["relay-cron-schedule", "consumer-msk", "consumer-sqs"] {
        let failed = reserve.call(&sample(name)).await.expect_err(name);
        assert!(!failed.message.is_empty(), "{name}: {failed:?}");
    }
    // A body of 6 MB, the largest possible event, and a body with a wrong encoding
    for gateway in Gateway::ALL {
        let (status, _) = reserve.ask(gateway, "POST", "/api/v1/reserve", "k", &"x".repeat(6_000_000)).await;
        assert_eq!(status, 413, "{gateway:?}");
    }
    let mut event = Gateway::FunctionUrl.sample();
    event["body"] = "no base64!".into();
    if let Ok(answer) = reserve.call(&event).await {
        assert_eq!(answered(&answer).0, 400, "{answer}");
    }
    // The next request is answered as usual
    reserve.hold("after-all", "car").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_has_two_connections_and_leaves_no_transaction_open() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    assert_eq!(sessions(&books).await, 0, "connections are opened on demand");
    reserve.cars("car", 3).await;
    for n in 0..12 {
        let order = r#"{"resourceId":"car","quantity":1}"#;
        let (status, held) =
            reserve.ask(Gateway::HttpApi, "POST", "/api/v1/reserve", &format!("k{n}"), order).await;
        assert_eq!(open_transactions(&books).await, 0, "{held}");
        assert_eq!(status, if n < 3 { 200 } else { 409 }, "{held}");
        if let Some(token) = held["token"].as_str() {
            reserve.act("commit", token).await;
            assert_eq!(open_transactions(&books).await, 0);
            reserve.show(token).await;
        }
    }
    // The same holds if another transaction keeps the row locked for longer than the lock timeout
    let lock = books.block_writers().await;
    let order = r#"{"resourceId":"car","quantity":1}"#;
    let (status, _) = reserve
        .ask(Gateway::HttpApi, "POST", "/api/v1/resources", "", r#"{"resourceId":"car","totalStock":9}"#)
        .await;
    assert_eq!(status, 503);
    drop(lock);
    until_within(Duration::from_secs(10), "no transaction is open", async || {
        open_transactions(&books).await == 0
    })
    .await;
    reserve.ask(Gateway::HttpApi, "POST", "/api/v1/reserve", "k", order).await;
    let opened = sessions(&books).await;
    assert!((1..=2).contains(&opened), "{opened} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_environment_replaces_its_stale_connections() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    reserve.cars("car", 10).await;
    reserve.hold("before", "car").await;
    // Given an environment that is frozen until the database has closed its idle write connection
    reserve.freeze().expect("frozen");
    let before = sessions(&books).await;
    let patience = Duration::from_secs(40);
    until_within(patience, "the database closes the writer", async || sessions(&books).await < before).await;
    // When it is thawed, the next invocation works, and so does the one after it
    reserve.thaw().expect("thawed");
    let token = reserve.hold("after", "car").await;
    assert_eq!(reserve.show(&token).await["status"], "HELD");
    // The same holds after all connections were cut, as by a failover
    reserve.freeze().expect("frozen");
    books.cut_all().await;
    reserve.thaw().expect("thawed");
    let again = reserve.hold("after-a-cut", "car").await;
    assert_eq!(reserve.show(&again).await["status"], "HELD");
    assert_eq!(books.count("SELECT 10 - available FROM resources WHERE id = 'car'").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_at_cold_start_is_503() {
    let mut server = Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let warm = Lambda::start("reserve", &books, &[]).await;
    warm.cars("car", 5).await;
    server.kill().await.expect("killed");
    let cold = Lambda::start_at("reserve", &books.url(), &[]).await;
    let order = r#"{"resourceId":"car","quantity":1}"#;
    let answer =
        cold.call(&Gateway::HttpApi.event("POST", "/api/v1/reserve", "k", order)).await.expect("answered");
    let (status, problem) = answered(&answer);
    assert_eq!(status, 503, "{problem}");
    assert!(answer["headers"]["retry-after"].is_string(), "{answer}");
    assert_eq!(cold.ask(Gateway::Alb, "GET", "/health/live", "", "").await.0, 200);
    server.restart().await.expect("restarted");
    let patience = Duration::from_secs(30);
    until_within(patience, "it holds", async || {
        cold.ask(Gateway::HttpApi, "POST", "/api/v1/reserve", "k", order).await.0 == 200
    })
    .await;
}

/// On Lambda Managed Instances an environment handles many requests at once, which share transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_with_concurrent_requests_uses_lanes() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[("AWS_LAMBDA_MAX_CONCURRENCY", "64")]).await;
    reserve.cars("car", 50).await;
    let order = r#"{"resourceId":"car","quantity":1}"#;
    let mut crowd = Vec::new();
    for n in 0..300 {
        let event = Gateway::HttpApi.event("POST", "/api/v1/reserve", &format!("crowd-{n}"), order);
        crowd.push(reserve.begin(event.to_string(), TIME));
    }
    let mut held = 0;
    for invocation in crowd {
        let answer: Value =
            serde_json::from_slice(&reserve.end(invocation, TIME).await.expect("answered")).expect("JSON");
        let (status, body) = answered(&answer);
        assert!([200, 409].contains(&status), "{body}");
        held += u32::from(status == 200);
    }
    assert_eq!(held, 50);
    assert_eq!(books.count("SELECT available FROM resources WHERE id = 'car'").await, 0);
    let metrics = reserve.ask(Gateway::HttpApi, "GET", "/metrics", "", "").await.1;
    let metrics = metrics.as_str().expect("text");
    let count = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    let (transactions, commands) =
        (count("bespeak_lane_batch_commands_count"), count("bespeak_lane_batch_commands_sum"));
    assert!(commands > 2.0 * transactions, "{commands} commands in {transactions} transactions");
}

/// Histograms keep each sample until something drains them, and nothing scrapes a function. Its upkeep is a thread with
/// a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_are_drained_without_a_scrape() {
    let books = Books::mysql().await;
    let reserve = Lambda::start("reserve", &books, &[]).await;
    reserve.cars("car", 10).await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", reserve.pid())).expect("Linux");
    let names: Vec<_> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    assert!(names.iter().any(|name| name == "metrics-upkeep"), "{names:?}");
}
