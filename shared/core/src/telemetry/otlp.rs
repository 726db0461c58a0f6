//! Exports spans by OpenTelemetry's protocol over HTTP, in the background.
//!
//! Spans wait in a bounded queue, and a thread of the SDK sends them in batches. If the collector is unavailable or
//! slow, spans are dropped, and no request waits. Never: a span whose trace is not sampled. Next: `spans.rs` for the
//! spans that exist.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span},
};
use tokio::runtime::Handle;

use super::{
    error_chain::chain,
    finished_span::{FinishedSpan, SpanRole},
    options::OtlpOptions,
    trace_origin::TraceOrigin,
};
use crate::trace::TraceContext;

/// The largest number of waiting spans; each has less than a kilobyte.
const QUEUE: usize = 8_192;
/// How long a span waits for others of its batch.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that a flush delays its caller, and that the shutdown delays the end of the process.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The connection to the collector.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// The exporter, if one was started.
pub(super) fn exporter() -> Option<&'static Exporter> {
    EXPORTER.get()
}

/// Starts the exporter; a second call changes nothing.
pub(super) fn start(config: &OtlpOptions) -> Result<(), String> {
    let client = Client::new().map_err(|error| chain(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_http_client(client)
        .build()
        .map_err(|error| chain(&error))?;
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(GATHER);
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("bespeak").with_attribute(version).build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
        .with_resource(resource)
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("bespeak");
    let _ = EXPORTER.set(Exporter { provider, tracer });
    Ok(())
}

/// Exports the spans that have ended, for a bounded time.
pub(super) async fn flush(within: Duration) {
    let Some(exporter) = exporter() else { return };
    // The flush blocks its thread, and the collector may be unavailable.
    let flush = tokio::task::spawn_blocking(|| exporter.provider.force_flush());
    let _ = tokio::time::timeout(within.min(FLUSH_WITHIN), flush).await;
}

/// Exports the spans that have ended, for a bounded time, and stops.
pub(super) async fn stop() {
    let Some(exporter) = exporter() else { return };
    let stop = tokio::task::spawn_blocking(|| exporter.provider.shutdown_with_timeout(STOP_WITHIN));
    let _ = stop.await;
}

/// The span of a request in flight.
#[derive(Debug)]
pub(super) struct Open {
    span: Span,
    context: TraceContext,
}

impl Exporter {
    /// Begins the span of a request; `None` if its trace is not sampled.
    pub(super) fn begin(
        &self,
        origin: TraceOrigin,
        method: &str,
        route: &str,
        request_id: &str,
    ) -> Option<Open> {
        let given = origin.parent();
        if given.is_some_and(|given| !given.is_sampled()) {
            return None;
        }
        let attributes = [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("bespeak.request_id", request_id.to_owned()),
        ];
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .with_links(
                origin.link().map(|context| Link::with_context(remote_span(context))).into_iter().collect(),
            )
            .start_with_context(&self.tracer, &given.map(remote).unwrap_or_default());
        let own = span.span_context();
        let trace = u128::from_be_bytes(own.trace_id().to_bytes()).try_into().ok()?;
        let id = u64::from_be_bytes(own.span_id().to_bytes()).try_into().ok()?;
        let context = TraceContext::new(trace, id, true);
        span.is_recording().then_some(Open { span, context })
    }

    /// Exports a span that has ended now.
    pub(super) fn export(&self, ended: &FinishedSpan<'_>) {
        let texts = ended.texts.iter().map(|(name, text)| KeyValue::new(*name, (*text).to_owned()));
        let numbers = ended.numbers.iter().map(|(name, number)| KeyValue::new(*name, *number));
        let kind = match ended.kind {
            SpanRole::Internal => SpanKind::Internal,
            SpanRole::Producer => SpanKind::Producer,
            SpanRole::Consumer => SpanKind::Consumer,
        };
        let mut span = self
            .tracer
            .span_builder(ended.name)
            .with_kind(kind)
            .with_start_time(ended.began)
            .with_attributes(texts.chain(numbers))
            .start_with_context(&self.tracer, &remote(ended.parent));
        if ended.failed {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

impl Open {
    pub(super) fn context(&self) -> TraceContext {
        self.context
    }

    pub(super) fn end(mut self, status: u16) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

/// A context that another process began.
fn remote(context: TraceContext) -> Context {
    Context::new().with_remote_span_context(remote_span(context))
}

fn remote_span(context: TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    SpanContext::new(
        TraceId::from(context.trace().get()),
        SpanId::from(context.span().get()),
        flags,
        true,
        TraceState::NONE,
    )
}

/// The HTTP client of the other parts of the process, for the SDK's thread: requests run on the runtime, and the
/// thread waits for them.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    away: AtomicBool,
}

impl Client {
    fn new() -> Result<Self, reqwest::Error> {
        // The first call sets the process's cryptography provider; all callers set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, runtime: Handle::current(), away: AtomicBool::new(false) })
    }

    /// Logs an outage once when it begins and once when it ends.
    fn log_outage(&self, failure: Option<&str>) {
        let was_away = self.away.swap(failure.is_some(), Ordering::Relaxed);
        match (failure, was_away) {
            (Some(reason), false) => {
                tracing::warn!(
                    reason,
                    "spans cannot be exported; they are dropped until the collector accepts them"
                );
            }
            (None, true) => tracing::info!("spans are exported again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let received = self.runtime.spawn(async move {
            let response = http.execute(request.try_into()?).await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        });
        let (status, body) = match received.await? {
            Ok(received) => received,
            Err(error) => {
                // The URL may contain a password.
                let error = error.without_url();
                self.log_outage(Some(&chain(&error)));
                return Err(error.into());
            }
        };
        let refused = (!status.is_success()).then(|| format!("the collector responds with {status}"));
        self.log_outage(refused.as_deref());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}
