//! Traces of clients that are not trusted.

use std::time::Duration;

use bespeak_tests::{Books, Client, Collector, Server, until_within};
use http::Method;
use serde_json::json;

async fn hold(server: &Server, key: &str, traceparent: &str) {
    let headers = [("idempotency-key", key), ("x-request-id", key), ("traceparent", traceparent)];
    let body = json!({"resourceId": "seat", "quantity": 1}).to_string();
    assert_eq!(server.ask(Method::POST, "/api/v1/reserve", &headers, &body).await.0, 200);
}

/// With `BESPEAK_TRUST_TRACE=never` a stranger decides neither what is exported nor to which trace it belongs; the span
/// links to the trace that it named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_trace_becomes_a_link() {
    let books = Books::sqlite();
    let collector = Collector::start().await;
    let endpoint = collector.url();
    let settings = [("BESPEAK_TRUST_TRACE", "never"), ("BESPEAK_OTLP_ENDPOINT", endpoint.as_str())];
    let server = Server::start(&books, &settings).await;
    server.stock("seat", 10).await;
    // The first caller asks for export, the second for none: the ratio (1) decides for both.
    let trace_id = |n: u128| format!("{:032x}", n << 64 | 7);
    let [sampled, unsampled] =
        [(5, "01"), (6, "00")].map(|(n, flags)| format!("00-{}-{n:016x}-{flags}", trace_id(n)));
    for (n, given) in [(5, &sampled), (6, &unsampled)] {
        let id = format!("order-{n}");
        hold(&server, &id, given).await;
        let own = || collector.spans().into_iter().find(|span| span.attribute("bespeak.request_id") == id);
        until_within(Duration::from_secs(30), "its span", async || own().is_some()).await;
        let span = own().expect("a span");
        assert_eq!((span.parent.as_str(), &span.links), ("", &vec![trace_id(n)]), "{span:?}");
        assert_ne!(span.trace, trace_id(n));
        assert_eq!(collector.of(&trace_id(n)).len(), 0, "the named trace has no span of ours");
    }
    // Nothing is exported if the ratio says so, whatever the caller asks for.
    let settings = [&settings[..], &[("BESPEAK_OTLP_SAMPLE_RATIO", "0")]].concat();
    let server = Server::start(&books, &settings).await;
    hold(&server, "quiet", &sampled).await;
    assert_eq!(server.stop().await, 0, "the spans that there are were exported");
    assert!(collector.spans().iter().all(|span| span.attribute("bespeak.request_id") != "quiet"));
}
