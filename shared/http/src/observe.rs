//! Observes every request: gives it its ids, counts it in the metrics, and writes its log line and its span.
//!
//! A request has a trace context (from `traceparent`, else from the header of X-Ray, else a new one) and a request id
//! (from `x-request-id`, else a new one), which its answer repeats. A malformed header of these is ignored: no
//! request fails because of one.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use bespeak::{
    http_options::HttpOptions,
    telemetry::{
        self, AccessLine,
        spans::{RequestSpan, TraceOrigin},
    },
    trace::{self, RequestContext, TraceContext},
};

use crate::{compat::Compatibility, headers, listener::PeerAddress};

/// The header of request ids.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// The longest request id that is accepted from a client, in characters.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// What is observed of requests.
#[derive(Clone)]
pub(crate) struct Observer {
    trusts_trace: bool,
    access_log: bool,
    compat: Option<Compatibility>,
}

impl Observer {
    pub(crate) fn new(http: &HttpOptions, compat: Option<Compatibility>) -> Self {
        Self { trusts_trace: http.trusts_trace, access_log: http.access_log, compat }
    }

    /// The layer around all handlers. The metrics of a request are labelled with its matched path.
    pub(crate) async fn observe(self, request: Request, next: Next) -> Response {
        let started = Instant::now();
        let method = request.method().clone();
        // A client can choose any number of unmatched paths, so none of them must become a label.
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
        let peer = request.extensions().get::<PeerAddress>().map(|PeerAddress(address)| *address);
        let is_page = headers::is_page(request.uri().path());
        let id = request_id(request.headers());
        let shown = id.to_str().unwrap_or_default();
        let span = RequestSpan::begin(self.origin(request.headers()), method.as_str(), route, shown);
        let context = RequestContext { trace: span.context(), request_id: shown.into() };

        let logged = self.access_log.then(|| context.clone());
        let mut response = trace::within(context, async {
            let response = next.run(request).await;
            log(&method, route, response.status(), started.elapsed());
            response
        })
        .await;

        let (status, took) = (response.status().as_u16(), started.elapsed());
        telemetry::count_request(method.as_str(), route, status, took);
        if let Some(compat) = &self.compat {
            let matched = matched.as_ref().map(MatchedPath::as_str);
            compat.observe(method.as_str(), matched, status, took);
        }
        if let Some(context) = &logged {
            let method = method.as_str();
            telemetry::write_access_line(AccessLine { method, route, status, took, peer, context });
        }
        span.end(status);
        response.headers_mut().insert(REQUEST_ID, id);
        headers::protect(&mut response, is_page);
        response
    }

    /// The trace context that the request carries, and what becomes of it.
    fn origin(&self, headers: &HeaderMap) -> TraceOrigin {
        match given(headers) {
            None => TraceOrigin::None,
            Some(context) if self.trusts_trace => TraceOrigin::Parent(context),
            Some(context) => TraceOrigin::Link(context),
        }
    }
}

/// Logs the answer: internal errors at the level `ERROR`, all others at `DEBUG`.
fn log(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let (status, took_ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%method, route, status, took_ms, "a request failed");
    } else {
        tracing::debug!(%method, route, status, took_ms, "answered");
    }
}

/// The client's request id if it is printable and not too long, else a random one. An id is not a secret.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let printable = |id: &&HeaderValue| id.as_bytes().iter().all(u8::is_ascii_graphic);
    let short = |id: &&HeaderValue| (1..=REQUEST_ID_LENGTH_MAX).contains(&id.len());
    if let Some(id) = headers.get(REQUEST_ID).filter(short).filter(printable) {
        return id.clone();
    }
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut text))
        // Hexadecimal digits and hyphens are a valid header value, so this does not fail.
        .unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// The trace context that the request carries, if any.
fn given(headers: &HeaderMap) -> Option<TraceContext> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    header(TRACEPARENT)
        .and_then(TraceContext::parse)
        .or_else(|| header(XRAY).and_then(|text| TraceContext::parse_xray(text, trace::draw_span())))
}
