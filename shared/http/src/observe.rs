//! What is noted of every request: its ids, its metrics, its line in the log, its span.
//!
//! A request has a trace context (`traceparent`, else X-Ray's header, else its own) and a request id (`x-request-id`, else
//! its own), which its answer bears. What a client sends in their place and is none is as if it had not been sent: no
//! request fails over it.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use bespeak::{
    telemetry::{self, spans::RequestSpan},
    trace::{self, RequestContext, TraceContext},
};

/// The header of request ids.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// The longest request id that is taken over, in characters.
pub(crate) const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The layer around all handlers.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    // An unmatched path is chosen by the client, so it must not become a label.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let id = request_id(request.headers());
    let shown = id.to_str().unwrap_or_default();
    let own = RequestSpan::begin(given(request.headers()), method.as_str(), route, shown);
    let asked = RequestContext { trace: own.context(), request_id: shown.into() };

    let mut response = trace::within(asked, async {
        let response = next.run(request).await;
        log(&method, route, response.status(), started.elapsed());
        response
    })
    .await;

    let status = response.status().as_u16();
    telemetry::count_request(method.as_str(), route, status, started.elapsed());
    own.end(status);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A line for those who look, and one for those who must.
fn log(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let (status, took_ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%method, route, status, took_ms, "a request failed");
    } else {
        tracing::debug!(%method, route, status, took_ms, "answered");
    }
}

/// The client's, if it is printable and not too long; else a new one. Ids are names, not secrets.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let printable = |id: &&HeaderValue| id.as_bytes().iter().all(u8::is_ascii_graphic);
    let short = |id: &&HeaderValue| (1..=REQUEST_ID_LENGTH_MAX).contains(&id.len());
    if let Some(id) = headers.get(REQUEST_ID).filter(short).filter(printable) {
        return id.clone();
    }
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut text))
        // Digits and hyphens are a header's value.
        .unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// The context that came with a request.
fn given(headers: &HeaderMap) -> Option<TraceContext> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    header(TRACEPARENT)
        .and_then(TraceContext::parse)
        .or_else(|| header(XRAY).and_then(|text| TraceContext::parse_xray(text, trace::draw_span())))
}
