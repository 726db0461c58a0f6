//! The ids of a request: in its answer, in the log, in its events, at their receivers, and in exported spans.

use std::{collections::HashSet, time::Duration};

use axum::body::Body;
use bespeak::trace::TraceContext;
use bespeak_tests::{
    Api, Behaviour, Books, Client, Collector, Receiver, Reply, Server, Span, Topic, each_store, until,
    until_within,
};
use http::{Method, Request};
use serde_json::{Value, json};

each_store!(
    a_trace_follows_a_request_to_log_topic_and_webhook,
    concurrent_requests_keep_their_own_traces,
    events_without_a_trace_are_published,
    the_spans_of_a_reservation_are_one_trace,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The `traceparent` of a request, by its number.
fn traceparent(n: u128) -> String {
    format!("00-{:032x}-{:016x}-00", n << 64 | 7, n)
}

fn trace_id(n: u128) -> String {
    format!("{:032x}", n << 64 | 7)
}

/// Holds a unit by a request with these headers; returns the token.
async fn hold(server: &Server, key: &str, headers: &[(&'static str, &str)]) -> String {
    let headers = [&[("idempotency-key", key)], headers].concat();
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 600}).to_string();
    let (status, answer) = server.ask(Method::POST, "/api/v1/reserve", &headers, &body).await;
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().expect("a token").to_owned()
}

/// The lines of the log with this level whose message contains `said`.
fn lines(server: &Server, level: &str, said: &str) -> Vec<Value> {
    let parse = |line: String| serde_json::from_str::<Value>(&line).expect("a line is JSON");
    let lines = server.logged(level).into_iter().map(parse);
    lines.filter(|line| line["message"].as_str().is_some_and(|message| message.contains(said))).collect()
}

/// The trace appears in the topic, in the consumer's log and at the webhook, on both stores, with and without Kafka.
async fn a_trace_follows_a_request_to_log_topic_and_webhook(books: Books) {
    for kafka in [false, true] {
        let books = books.another().await;
        let topic = if kafka { Some(Topic::new().await) } else { None };
        let events = topic.as_ref().map_or("embedded:".to_owned(), Topic::url);
        let receiver = Receiver::start(Behaviour::status(200)).await;
        let url = receiver.url();
        let settings = [
            ("BESPEAK_EVENTS_URL", events.as_str()),
            ("BESPEAK_WEBHOOK_URL", url.as_str()),
            ("BESPEAK_WEBHOOK_SECRET", SECRET),
            ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
            ("BESPEAK_LOG", "info,bespeak=debug,bespeak_http=debug"),
        ];
        let server = Server::start(&books, &settings).await;
        server.stock("seat", 1).await;
        let (one, two) = (traceparent(1), traceparent(2));
        let token = hold(&server, "1", &[("traceparent", &one), ("x-request-id", "order-4711")]).await;
        let body = json!({"token": token}).to_string();
        let headers = [("traceparent", two.as_str())];
        assert_eq!(server.ask(Method::POST, "/api/v1/commit", &headers, &body).await.0, 200);
        until_within(Duration::from_secs(30), "three webhooks arrive", async || {
            receiver.messages().len() == 3
        })
        .await;

        // Each message carries the request's own trace context, because no span was recorded in between.
        let expected = [("held.v1", &one), ("depleted", &one), ("committed.v1", &two)];
        for (kind, expected) in expected {
            let messages = receiver.messages();
            let message =
                messages.iter().find(|message| message.body.to_lowercase().contains(kind)).expect(kind);
            assert_eq!(message.header("traceparent"), expected, "{kind}");
            assert!(message.is_signed_with(SECRET));
        }
        if let Some(topic) = &topic {
            for (kind, expected) in expected {
                let records = topic.read().await;
                let record =
                    records.iter().find(|record| record.headers["ce_type"].contains(kind)).expect(kind);
                assert_eq!(&record.headers["traceparent"], expected);
                assert_eq!(&record.headers["ce_traceparent"], expected);
            }
        }
        // The consumer logs the ids of the event and of the trace.
        until("the log has them", async || lines(&server, "DEBUG", "an event is applied").len() == 3).await;
        let applied = lines(&server, "DEBUG", "an event is applied");
        let of = |trace: &str| applied.iter().filter(|line| line["trace_id"] == trace).count();
        assert_eq!((of(&trace_id(1)), of(&trace_id(2))), (2, 1), "{applied:?}");
        assert!(applied.iter().all(|line| line["event_id"].as_str().is_some_and(|id| id.len() == 36)));
        // The line of the request has the request's id.
        let answered = lines(&server, "DEBUG", "answered");
        let own = answered.iter().find(|line| line["request_id"] == "order-4711").expect("a line");
        assert_eq!((&own["trace_id"], &own["status"]), (&json!(trace_id(1)), &json!(200)));
        assert_eq!((&own["method"], &own["route"]), (&json!("POST"), &json!("/api/v1/reserve")));
    }
}

/// Requests share transactions, and their traces do not mix. A request without a valid trace context gets a new one.
async fn concurrent_requests_keep_their_own_traces(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 1_000).await;
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 600}).to_string();
    let malformed = ["", "hello", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"];
    let requests = (0..200_u128).map(|n| {
        let request = Request::post("/api/v1/reserve")
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{n}"));
        let request = match n {
            0..150 => request.header("traceparent", traceparent(n + 1)),
            150..190 => request.header("traceparent", malformed[usize::try_from(n).expect("few") % 4]),
            _ => request,
        };
        api.send(request.body(Body::from(body.clone())).expect("a request"))
    });
    let replies: Vec<Reply> = futures_util::future::join_all(requests).await;
    let traces = traces_by_key(&api).await;
    let mut drawn = HashSet::new();
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(reply.status, 200, "{}", reply.text);
        let token = reply.json()["token"].as_str().expect("a token").to_owned();
        let trace = traces[&token].expect("each event of a request has one");
        if n < 150 {
            assert_eq!(trace.traceparent().as_str(), traceparent(n as u128 + 1));
        } else {
            assert!(!trace.is_sampled() && drawn.insert(trace.trace_id().to_string()));
        }
    }
    assert_eq!(drawn.len(), 50);
}

/// The trace of the last event of each key.
async fn traces_by_key(api: &Api) -> std::collections::HashMap<String, Option<TraceContext>> {
    let store = api.books.open(None, api.config.strategy.guard()).await;
    let filter = bespeak::store::OutboxFilter { limit: 10_000, ..Default::default() };
    let rows = store.outbox_rows(&filter).await.expect("read");
    rows.into_iter().map(|row| (row.event.key, row.event.trace)).collect()
}

/// Events from before the column existed, events of the timer, and events with an unreadable trace have no trace
/// headers.
async fn events_without_a_trace_are_published(books: Books) {
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &[("BESPEAK_EVENTS_URL", &events), ("BESPEAK_RELAY", "off")]).await;
    server.stock("seat", 9).await;
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1});
    server.submit("/api/v1/reserve", "short", &body).await;
    let before = hold(&server, "1", &[]).await;
    let unread = hold(&server, "2", &[]).await;
    until_within(Duration::from_secs(30), "the timer has expired it", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE type = 'bespeak.reservation.expired.v1'").await == 1
    })
    .await;
    books.tamper(&format!("UPDATE outbox SET traceparent = NULL WHERE event_key = '{before}'")).await;
    books.tamper(&format!("UPDATE outbox SET traceparent = '01-what' WHERE event_key = '{unread}'")).await;
    drop(server);
    let _server = Server::start(&books, &[("BESPEAK_EVENTS_URL", &events)]).await;
    until_within(Duration::from_secs(30), "all are applied", async || {
        books.count("SELECT COUNT(*) FROM processed_events").await == 4
    })
    .await;
    for record in topic.read().await {
        let of_timer = record.headers["ce_type"].contains("expired");
        let without = of_timer || [&before, &unread].contains(&&record.key);
        assert_eq!(record.headers.contains_key("traceparent"), !without, "{record:?}");
        assert_eq!(record.headers.contains_key("ce_traceparent"), !without, "{record:?}");
    }
}

/// The spans from HTTP to the consumer, which with Kafka runs in a second process.
async fn the_spans_of_a_reservation_are_one_trace(books: Books) {
    for kafka in [false, true] {
        let books = books.another().await;
        let collector = Collector::start().await;
        let endpoint = collector.url();
        let topic = if kafka { Some(Topic::new().await) } else { None };
        let events = topic.as_ref().map_or("embedded:".to_owned(), Topic::url);
        let settings = [("BESPEAK_EVENTS_URL", events.as_str()), ("BESPEAK_OTLP_ENDPOINT", &endpoint)];
        let elsewhere = [&settings[..], &[("BESPEAK_RELAY", "off")]].concat();
        let here = [&settings[..], &[("BESPEAK_CONSUMER", "off")]].concat();
        let server = Server::start(&books, &here).await;
        let consumer = if kafka { Some(Server::start(&books, &elsewhere).await) } else { None };
        server.stock("seat", 10).await;
        let sampled = format!("00-{}-{:016x}-01", trace_id(5), 5);
        let headers = [("traceparent", sampled.as_str()), ("x-request-id", "order-4712")];
        let token = hold(&server, "1", &headers).await;
        let trace = trace_id(5);
        until_within(Duration::from_secs(30), "four spans", async || collector.of(&trace).len() == 4).await;
        let spans = collector.of(&trace);
        let named = |name: &str| -> Span {
            spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}")).clone()
        };
        let (http, transaction) = (named("POST /api/v1/reserve"), named("transaction"));
        let (publish, apply) = (named("publish"), named("apply"));
        assert_eq!(http.parent, format!("{:016x}", 5));
        assert_eq!([&transaction.parent, &publish.parent, &apply.parent], [&http.id; 3]);
        assert!(transaction.took <= http.took);
        assert!(spans.iter().all(|span| span.service == "bespeak" && !span.failed));
        assert_eq!(http.attribute("bespeak.request_id"), "order-4712");
        assert_eq!(http.attribute("http.response.status_code"), "200");
        assert_eq!(transaction.attribute("bespeak.command"), "reserve");
        assert_eq!(apply.attribute("cloudevents.event_type"), "bespeak.reservation.held.v1");
        assert_eq!(apply.attribute("cloudevents.event_id"), publish.attribute("cloudevents.event_id"));
        // A token is a capability and must not be exported.
        assert!(!format!("{spans:?}").contains(&token));
        // The record carries the span that caused it.
        if let Some(topic) = &topic {
            let record =
                topic.read().await.into_iter().find(|record| record.key == token).expect("its event");
            assert_eq!(record.headers["traceparent"], format!("00-{trace}-{}-01", http.id));
        }
        // A request whose caller does not record is not recorded. A request without a caller is the root of a new
        // trace.
        hold(&server, "2", &[("traceparent", &traceparent(6))]).await;
        hold(&server, "3", &[("x-request-id", "order-4713")]).await;
        let root = || {
            let spans = collector.spans();
            spans.into_iter().find(|span| span.attribute("bespeak.request_id") == "order-4713")
        };
        until_within(Duration::from_secs(30), "a root", async || {
            root().is_some_and(|root| root.parent.is_empty() && collector.of(&root.trace).len() == 4)
        })
        .await;
        assert_eq!(collector.of(&trace_id(6)).len(), 0);
        // The trace of a poison record is in the log line and in the dead letter.
        if let Some(topic) = &topic {
            let headers = [("ce_specversion", "1.0"), ("traceparent", sampled.as_str())];
            topic.put("poison", &headers, Some(b"{}")).await;
            until_within(Duration::from_secs(30), "set aside", async || {
                !topic.dead_letters().await.is_empty()
            })
            .await;
            let letter = topic.dead_letters().await.remove(0);
            assert_eq!(letter.headers["traceparent"], sampled);
            let said = lines(consumer.as_ref().expect("there is one"), "ERROR", "become dead letters");
            assert_eq!(said[0]["trace_id"], trace);
        }
    }
}

/// No request waits for a collector that is unreachable, silent or refusing. The outage is logged once, and so is its
/// end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_collector_delays_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    for address in [closed, silent.local_addr().expect("an address").to_string()] {
        let endpoint = format!("http://{address}");
        let books = Books::sqlite();
        let server = Server::start(&books, &[("BESPEAK_OTLP_ENDPOINT", &endpoint)]).await;
        server.stock("seat", 1_000).await;
        for n in 0..200 {
            hold(&server, &format!("{n}"), &[]).await;
        }
        until_within(Duration::from_secs(30), "the outage is logged", async || {
            lines(&server, "WARN", "spans cannot be exported").len() == 1
        })
        .await;
        hold(&server, "last", &[]).await;
        assert_eq!(lines(&server, "WARN", "spans cannot be exported").len(), 1);
        assert_eq!(server.stop().await, 0, "the server stops in time");
        books.assert_consistent().await;
    }
    let collector = Collector::start().await;
    collector.refuse(1);
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_OTLP_ENDPOINT", &collector.url())]).await;
    server.stock("seat", 1_000).await;
    until_within(Duration::from_secs(30), "the outage is logged", async || {
        server.logged("WARN").iter().any(|line| line.contains("the collector responds with 503"))
    })
    .await;
    hold(&server, "1", &[]).await;
    until_within(Duration::from_secs(30), "the recovery is logged", async || {
        lines(&server, "INFO", "spans are exported again").len() == 1
    })
    .await;
    // The last spans are exported before the process ends.
    hold(&server, "2", &[("x-request-id", "the-last")]).await;
    assert_eq!(server.stop().await, 0);
    assert!(collector.spans().iter().any(|span| span.attribute("bespeak.request_id") == "the-last"));
}

/// A ratio of 0 exports only traces that the caller has sampled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsampled_traces_are_not_exported() {
    let collector = Collector::start().await;
    let books = Books::sqlite();
    let settings =
        [("BESPEAK_OTLP_ENDPOINT", collector.url()), ("BESPEAK_OTLP_SAMPLE_RATIO", "0".to_owned())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start(&books, &settings).await;
    server.stock("seat", 10).await;
    hold(&server, "1", &[]).await;
    let sampled = format!("00-{}-{:016x}-01", trace_id(9), 9);
    hold(&server, "2", &[("traceparent", &sampled)]).await;
    until_within(Duration::from_secs(30), "the sampled one", async || collector.of(&trace_id(9)).len() == 4)
        .await;
    assert_eq!(server.stop().await, 0);
    assert_eq!(collector.spans().len(), 4);
}

/// Every answer has a request id: the client's if it is valid, otherwise a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_has_a_request_id() {
    let api = Api::start(Books::sqlite()).await;
    let ask = async |path: &str, id: Option<&[u8]>| {
        let mut request = Request::get(path);
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let reply = api.send(request.body(Body::empty()).expect("a request")).await;
        reply.header("x-request-id").to_owned()
    };
    let longest = "x".repeat(128);
    for given in ["a", "order/4711:retry=2", &longest] {
        for path in ["/health/live", "/api/v1/resources/nothing", "/nowhere", "/api/v1/reserve", "/metrics"] {
            assert_eq!(ask(path, Some(given.as_bytes())).await, given, "{path}");
        }
    }
    let too_long = "x".repeat(129);
    let mut drawn = HashSet::new();
    for given in [&b""[..], b"two words", "é".as_bytes(), too_long.as_bytes(), b"tab\there"] {
        let own = ask("/health/live", Some(given)).await;
        assert!(uuid::Uuid::try_parse(&own).is_ok() && drawn.insert(own), "{given:?}");
    }
    assert!(drawn.insert(ask("/health/live", None).await) && drawn.insert(ask("/nowhere", None).await));
}

/// Without a `traceparent` of the client, events carry the trace of the X-Ray header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x_ray_trace_headers_are_used() {
    let given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    let other = traceparent(3);
    for (key, headers, expected) in [
        ("1", &[("x-amzn-trace-id", given)][..], expected),
        ("2", &[("x-amzn-trace-id", given), ("traceparent", other.as_str())], other.as_str()),
        ("3", &[("x-amzn-trace-id", given), ("traceparent", "hello")], expected),
    ] {
        let token = hold(&server, key, headers).await;
        let store = books.open(None, bespeak::store::Guard::RowLock).await;
        let filter = bespeak::store::OutboxFilter { key: Some(token), limit: 1, ..Default::default() };
        let event = store.outbox_rows(&filter).await.expect("read").remove(0).event;
        assert_eq!(event.trace.expect("a trace").traceparent().as_str(), expected, "{key}");
    }
}

/// An invalid setting stops the start with one line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_otlp_settings_stop_the_start() {
    for (name, value, expected) in [
        ("BESPEAK_OTLP_ENDPOINT", "127.0.0.1:4318", "the base URL of a collector"),
        ("BESPEAK_OTLP_ENDPOINT", "grpc://127.0.0.1:4317", "the base URL of a collector"),
        ("BESPEAK_OTLP_SAMPLE_RATIO", "1.5", "a number from 0 to 1"),
        ("BESPEAK_OTLP_SAMPLE_RATIO", "NaN", "a number from 0 to 1"),
    ] {
        let ran = bespeak_tests::bespeak(&["serve"], &[(name, value)]).await;
        assert!(ran.code == 2 && ran.err.contains(name) && ran.err.contains(expected), "{ran:?}");
    }
}
