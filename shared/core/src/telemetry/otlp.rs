//! The export of spans by OpenTelemetry's protocol over HTTP, in the background.
//!
//! Spans wait in a bounded queue and are sent in batches by a thread of the SDK; where the collector is away or slow, they
//! are dropped, and nobody waits. Never: a span whose trace is not sampled. Next: `spans.rs` for which spans there are.

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
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
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
    chain,
    spans::{Ended, Kind},
};
use crate::{telemetry::OtlpOptions, trace::TraceContext};

/// Spans that wait at the most; one has less than a kilobyte.
const QUEUE: usize = 8_192;
/// How long a span waits for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a flush may hold up whoever asks for it, and the end of the process.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// The exporter, where one was started.
pub(super) fn exporter() -> Option<&'static Exporter> {
    EXPORTER.get()
}

/// Starts it; a second start changes nothing.
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

/// Sends what has ended, for a while.
pub(super) async fn flush(within: Duration) {
    let Some(exporter) = exporter() else { return };
    // It blocks its thread, and the collector may be away.
    let flush = tokio::task::spawn_blocking(|| exporter.provider.force_flush());
    let _ = tokio::time::timeout(within.min(FLUSH_WITHIN), flush).await;
}

/// Sends what has ended, for a while, and ends.
pub(super) async fn stop() {
    let Some(exporter) = exporter() else { return };
    let stop = tokio::task::spawn_blocking(|| exporter.provider.shutdown_with_timeout(STOP_WITHIN));
    let _ = stop.await;
}

/// A span of a request under way.
#[derive(Debug)]
pub(super) struct Open {
    span: Span,
    context: TraceContext,
}

impl Exporter {
    /// Begins the span of a request; `None` where its trace is not sampled.
    pub(super) fn begin(
        &self,
        given: Option<TraceContext>,
        method: &str,
        route: &str,
        request_id: &str,
    ) -> Option<Open> {
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
            .start_with_context(&self.tracer, &given.map(remote).unwrap_or_default());
        let own = span.span_context();
        let trace = u128::from_be_bytes(own.trace_id().to_bytes()).try_into().ok()?;
        let id = u64::from_be_bytes(own.span_id().to_bytes()).try_into().ok()?;
        let context = TraceContext::new(trace, id, true);
        span.is_recording().then_some(Open { span, context })
    }

    /// Exports a span that has ended now.
    pub(super) fn ended(&self, ended: &Ended<'_>) {
        let texts = ended.texts.iter().map(|(name, text)| KeyValue::new(*name, (*text).to_owned()));
        let numbers = ended.numbers.iter().map(|(name, number)| KeyValue::new(*name, *number));
        let kind = match ended.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
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

/// A context that somebody else began.
fn remote(context: TraceContext) -> Context {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let span = SpanContext::new(
        TraceId::from(context.trace().get()),
        SpanId::from(context.span().get()),
        flags,
        true,
        TraceState::NONE,
    );
    Context::new().with_remote_span_context(span)
}

/// The HTTP client of the process's other parts, for the SDK's thread: requests run on the runtime, and it waits for them.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    away: AtomicBool,
}

impl Client {
    fn new() -> Result<Self, reqwest::Error> {
        // The first to set the process's cryptography wins; there is only one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, runtime: Handle::current(), away: AtomicBool::new(false) })
    }

    /// An outage is told once when it begins and once when it is over.
    fn note(&self, failure: Option<&str>) {
        let was_away = self.away.swap(failure.is_some(), Ordering::Relaxed);
        match (failure, was_away) {
            (Some(reason), false) => {
                tracing::warn!(
                    reason,
                    "spans cannot be exported; they are dropped until the collector takes them"
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
        let answer = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, body) = match answer.await? {
            Ok(answer) => answer,
            Err(error) => {
                // The URL may hold a password.
                let error = error.without_url();
                self.note(Some(&chain(&error)));
                return Err(error.into());
            }
        };
        let refused = (!status.is_success()).then(|| format!("the collector answers {status}"));
        self.note(refused.as_deref());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}
