//! Metrics of HTTP requests.

use std::time::Duration;

use metrics::{counter, histogram};

/// Counts an answered request, and records its duration.
pub fn count_request(method: &str, route: &str, status: u16, took: Duration) {
    // A client may invent methods, and the number of series must stay small.
    let known = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method);
    let method = known.unwrap_or("other").to_owned();
    let labels = [("method", method), ("route", route.to_owned()), ("status", status.to_string())];
    counter!("bespeak_http_requests_total", &labels).increment(1);
    histogram!("bespeak_http_request_seconds", "route" => route.to_owned()).record(took);
}
