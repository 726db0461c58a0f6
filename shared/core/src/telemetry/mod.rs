//! What an operator sees: logs and metrics. The one place that names metrics.
//!
//! Never: decisions. A metric's name ends in its unit; counters end in `_total`.

mod catalogue;
mod coordination;
mod error_chain;
mod events;
mod exporter;
mod lines;
mod locks;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
pub mod spans;

use std::{io::IsTerminal, sync::OnceLock, time::Duration};

use lines::WithIds;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) use coordination::{
    GateMessage, RedisCall, RedisResult, count_gate_message, count_limited, count_limited_locally,
    count_redis_call, count_refused_by_gate, set_breaker,
};
pub(crate) use error_chain::chain;
pub(crate) use events::{RelayCounts, count_consumed, count_dead_lettered, count_relay_step, set_backlog};
#[cfg(feature = "kafka")]
pub(crate) use events::{count_rejoined, set_consumer_lag};
pub(crate) use locks::{count_lock, count_lost_lock};
pub use options::OtlpOptions;

/// Seconds, from a lone commit on a fast disk to the longest time-out.
const SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Commands per transaction, doubling.
const COMMANDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is in the notation of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// A filter that is not understood, with what is wrong about it.
pub fn start_logs(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let registry = tracing_subscriber::registry().with(filter);
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    let with_ids = tracing_subscriber::fmt::format().with_ansi(ansi);
    let started = match format {
        LogFormat::Text => {
            registry.with(lines.event_format(WithIds { format: with_ids, shape: format })).try_init()
        }
        LogFormat::Json => {
            let with_ids = WithIds { format: with_ids.json().flatten_event(true), shape: format };
            registry.with(lines.json().event_format(with_ids)).try_init()
        }
    };
    started.map_err(|error| error.to_string())
}

/// Starts the export of spans, where the configuration names a collector. Must run on the runtime that will serve.
///
/// # Errors
/// This build cannot export spans, or the exporter cannot be made.
pub fn start_spans(config: Option<&OtlpOptions>) -> Result<(), String> {
    match config {
        None => Ok(()),
        #[cfg(feature = "otlp")]
        Some(config) => otlp::start(config),
        #[cfg(not(feature = "otlp"))]
        Some(_) => Err("it is not in this build: build it with the feature otlp".to_owned()),
    }
}

/// Sends the spans that have ended, and waits for it, but not for long: whoever may be frozen after an answer calls this
/// before it, with how much time it has for that.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn flush_spans(within: Duration) {
    #[cfg(feature = "otlp")]
    otlp::flush(within).await;
    #[cfg(not(feature = "otlp"))]
    let _ = within;
}

/// Sends the spans that have ended, and ends the export.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn stop_spans() {
    #[cfg(feature = "otlp")]
    otlp::stop().await;
}

/// The process's metrics; started at the first call, the same ever after.
///
/// # Errors
/// Another recorder was installed before.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &COMMANDS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        catalogue::register();
    }
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// Counts an answered request.
pub fn count_request(method: &str, route: &str, status: u16, took: Duration) {
    // A client may invent methods; labels must stay few.
    let known = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method);
    let method = known.unwrap_or("other").to_owned();
    let labels = [("method", method), ("route", route.to_owned()), ("status", status.to_string())];
    counter!("bespeak_http_requests_total", &labels).increment(1);
    histogram!("bespeak_http_request_seconds", "route" => route.to_owned()).record(took);
}

/// Counts a command by its outcome.
pub(crate) fn count_command(name: &'static str, outcome: &'static str) {
    counter!("bespeak_commands_total", "command" => name, "outcome" => outcome).increment(1);
}

/// Counts a transaction.
pub(crate) fn observe_batch(commands: usize, took: Duration) {
    static HANDLES: OnceLock<(Histogram, Histogram)> = OnceLock::new();
    let (sizes, times) = HANDLES.get_or_init(|| {
        (histogram!("bespeak_lane_batch_commands"), histogram!("bespeak_store_transaction_seconds"))
    });
    // A batch is far below 2^52 commands.
    #[expect(clippy::cast_precision_loss)]
    sizes.record(commands as f64);
    times.record(took);
}

/// Counts what was forgotten because it was old.
pub(crate) fn count_purged(what: &'static str, records: u64) {
    if records > 0 {
        counter!("bespeak_purged_total", "what" => what).increment(records);
    }
}

/// Counts refusals that locked nothing.
pub(crate) fn count_refused_from_memory(refusals: u64) {
    if refusals > 0 {
        counter!("bespeak_refusals_from_memory_total").increment(refusals);
    }
}

/// Who ended a hold whose time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryPath {
    /// Somebody who wanted its units.
    OnDemand,
    /// The timer of a process that stays.
    Timer,
    /// A scheduled task that comes by.
    Sweep,
}

/// Counts expired holds by the path that expired them.
pub(crate) fn count_expired(path: ExpiryPath, holds: u64) {
    let path = match path {
        ExpiryPath::OnDemand => "on_demand",
        ExpiryPath::Timer => "timer",
        ExpiryPath::Sweep => "sweep",
    };
    if holds > 0 {
        counter!("bespeak_expiries_total", "path" => path).increment(holds);
    }
}

/// Counts a batch that is retried, by cause.
pub(crate) fn count_retry(cause: &'static str) {
    counter!("bespeak_store_retries_total", "cause" => cause).increment(1);
}

/// Counts a question to a database that is not in this process.
#[cfg(feature = "mysql")]
pub(crate) fn count_round_trip() {
    static ROUND_TRIPS: OnceLock<Counter> = OnceLock::new();
    ROUND_TRIPS.get_or_init(|| counter!("bespeak_store_round_trips_total")).increment(1);
}

/// Notes how many commands wait for a transaction.
#[expect(clippy::cast_precision_loss, reason = "queues are bounded far below 2^52")]
pub(crate) fn set_queue(commands: usize) {
    gauge!("bespeak_lane_queue_commands").set(commands as f64);
}

/// Notes which build runs, on a database that is named by the scheme of its URL.
pub(crate) fn set_build_info(database: &'static str) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("database", database)];
    gauge!("bespeak_build_info", &labels).set(1.0);
}

/// The use of a pool of connections at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool: `writers` or `readers`.
    pub pool: &'static str,
    /// Connections that are lent or being opened.
    pub in_use: usize,
    /// Open connections that wait for a call.
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// The largest number of connections.
    pub max: usize,
}

/// Sets the gauges of a pool of connections.
#[expect(clippy::cast_precision_loss, reason = "there are a thousand connections at most")]
pub(crate) fn set_pool(PoolUse { pool, in_use, idle, waiting, max }: PoolUse) {
    gauge!("bespeak_pool_connections", "pool" => pool, "state" => "in_use").set(in_use as f64);
    gauge!("bespeak_pool_connections", "pool" => pool, "state" => "idle").set(idle as f64);
    gauge!("bespeak_pool_waiting_calls", "pool" => pool).set(waiting as f64);
    gauge!("bespeak_pool_max_connections", "pool" => pool).set(max as f64);
}

/// How long calls wait for a connection of a pool.
pub(crate) struct PoolWaits {
    waits: Histogram,
    timeouts: Counter,
}

impl PoolWaits {
    /// Of the pool of this name.
    pub(crate) fn of(pool: &'static str) -> Self {
        Self {
            waits: histogram!("bespeak_pool_wait_seconds", "pool" => pool),
            timeouts: counter!("bespeak_pool_timeouts_total", "pool" => pool),
        }
    }

    /// Notes a wait that is over, whether a connection came of it or not.
    pub(crate) fn observe(&self, waited: Duration, timed_out: bool) {
        self.waits.record(waited);
        if timed_out {
            self.timeouts.increment(1);
        }
    }
}

/// Counts an attempt to deliver a webhook.
pub(crate) fn count_webhook(result: &'static str) {
    counter!("bespeak_webhook_attempts_total", "result" => result).increment(1);
}

/// Times an attempt to deliver a webhook.
pub(crate) fn observe_webhook_attempt(took: Duration) {
    histogram!("bespeak_webhook_attempt_seconds").record(took);
}

/// Sets the gauges of deliveries that wait: of enabled endpoints, of disabled ones, and how long the oldest is overdue.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_webhook_backlog(enabled: u64, disabled: u64, overdue: Duration) {
    gauge!("bespeak_webhook_pending_deliveries", "endpoint" => "enabled").set(enabled as f64);
    gauge!("bespeak_webhook_pending_deliveries", "endpoint" => "disabled").set(disabled as f64);
    gauge!("bespeak_webhook_overdue_seconds").set(overdue.as_secs_f64());
}
