//! A collector of OpenTelemetry's protocol over HTTP that keeps the received spans.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

/// An exported span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The service that sent it.
    pub service: String,
    /// The name of the span.
    pub name: String,
    /// The trace id, in hexadecimal digits.
    pub trace: String,
    /// The span id, in hexadecimal digits.
    pub id: String,
    /// The id of the parent span; empty for a root.
    pub parent: String,
    /// The trace ids of the spans that it links to.
    pub links: Vec<String>,
    /// The attributes, with values as text.
    pub attributes: Vec<(String, String)>,
    /// Whether the status is an error.
    pub failed: bool,
    /// The duration in nanoseconds.
    pub took: u64,
}

impl Span {
    /// An attribute as text; empty if it is missing.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

/// A running collector; it ends when dropped.
pub struct Collector {
    address: std::net::SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    refusals: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Kept {
    spans: Arc<Mutex<Vec<Span>>>,
    refusals: Arc<Mutex<u32>>,
}

impl Collector {
    /// Starts a collector on a free port of this machine.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = Kept { spans: Arc::default(), refusals: Arc::default() };
        let (spans, refusals) = (kept.spans.clone(), kept.refusals.clone());
        let router = Router::new().route("/v1/traces", post(take)).with_state(kept);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { address, spans, refusals, task }
    }

    /// The value for `BESPEAK_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses the next `batches` batches with 503.
    pub fn refuse(&self, batches: u32) {
        *self.refusals.lock().expect("no panic under the lock") = batches;
    }

    /// All received spans.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("no panic under the lock").clone()
    }

    /// The received spans of one trace.
    pub fn of(&self, trace: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(kept): State<Kept>, body: Bytes) -> (StatusCode, Vec<u8>) {
    {
        let mut refusals = kept.refusals.lock().expect("no panic under the lock");
        if *refusals > 0 {
            *refusals -= 1;
            return (StatusCode::SERVICE_UNAVAILABLE, Vec::new());
        }
    }
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let service = text(&resource.attributes, "service.name");
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        for span in spans {
            let attributes = span.attributes.iter().map(|kv| (kv.key.clone(), shown(kv))).collect();
            kept.spans.lock().expect("no panic under the lock").push(Span {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes,
                failed: span.status.is_some_and(|status| status.code == 2),
                took: span.end_time_unix_nano - span.start_time_unix_nano,
            });
        }
    }
    (StatusCode::OK, Vec::new())
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    attributes.iter().find(|kv| kv.key == name).map(shown).unwrap_or_default()
}

fn shown(kv: &KeyValue) -> String {
    match kv.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
