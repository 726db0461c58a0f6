//! Logs, metrics and spans: what an operator sees of a process. Only this module names metrics.
//!
//! Callers pass labels and numbers. Never: a decision, or an import of a module that calls this one. The name of a
//! metric ends in its unit, and the name of a counter in `_total`. Functions are called `count_*` if they increment a
//! counter, `set_*` if they set a gauge, and `observe_*` if they record into a histogram. Next: `catalogue.rs` for
//! all metrics, one file for each subject that is counted, `spans.rs` for spans.

mod access;
mod catalogue;
mod commands;
mod coordination;
mod error_chain;
mod events;
mod exporter;
mod finished_span;
mod http;
mod locks;
mod log_limit;
mod logs;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
mod recorder;
mod request_ids;
pub mod spans;
mod store;
mod trace_origin;
mod webhooks;

pub use access::{AccessLine, write_access_line};
pub use commands::ExpiryPath;
pub(crate) use commands::{
    count_command, count_expired, count_refused_from_memory, observe_batch, set_queue,
};
pub(crate) use coordination::{
    RedisCall, RedisResult, SoldOutMessage, count_rate_limit, count_rate_limited_locally, count_redis_call,
    count_refused_from_elsewhere, count_sold_out_message, set_open_breaker,
};
pub(crate) use error_chain::chain;
pub(crate) use events::{RelayCounts, count_consumed, count_dead_lettered, count_relay_step, set_backlog};
#[cfg(feature = "kafka")]
pub(crate) use events::{count_rebalance, set_consumer_lag};
pub use exporter::{flush_spans, start_spans, stop_spans};
pub use http::{ClosedConnection, OpenConnection, count_closed_connection, count_request};
pub(crate) use locks::{count_lock, count_lost_lock};
pub use log_limit::LogLimit;
pub use logs::start_logs;
pub use options::{LogFormat, OtlpOptions};
pub use recorder::metrics;
pub use store::PoolUse;
#[cfg(feature = "mysql")]
pub(crate) use store::count_round_trip;
pub(crate) use store::{
    PoolWaits, count_purged, count_retry, set_build_info, set_clock_skew, set_overdue_hold, set_pool,
    set_running_tasks, set_verification,
};
pub(crate) use webhooks::{
    count_webhook, count_webhook_circuit_opened, count_webhook_endpoint_disabled, count_webhook_unsent,
    observe_webhook_attempt, set_webhook_backlog, set_webhook_endpoints, set_webhook_endpoints_full,
};
