//! Metrics of coordination through Redis: calls, the circuit breaker, the sold-out channel, the rate limit.

use std::{sync::OnceLock, time::Duration};

use metrics::{Counter, counter, gauge, histogram};

/// The purpose of a call to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisCall {
    /// Counts a request against the rate limit.
    Limit,
    /// Takes the count of a request back.
    GiveBack,
    /// Publishes hints about sold-out resources.
    Publish,
    /// Checks whether Redis is available again.
    Probe,
}

/// The result of a call to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisResult {
    Ok,
    Failed,
    TimedOut,
    /// The circuit breaker is open, so no call was made.
    Skipped,
}

/// The result of a hint or of a message with hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoldOutMessage {
    /// The message was sent to Redis.
    Published,
    /// The queue was full.
    Dropped,
    /// The hint was news.
    Learnt,
    /// The hint was older than what was known.
    Outdated,
}

/// Counts a call, and records its duration if it was made.
pub(crate) fn count_redis_call(call: RedisCall, result: RedisResult, took: Option<Duration>) {
    let call = match call {
        RedisCall::Limit => "limit",
        RedisCall::GiveBack => "give_back",
        RedisCall::Publish => "publish",
        RedisCall::Probe => "probe",
    };
    let result = match result {
        RedisResult::Ok => "ok",
        RedisResult::Failed => "failed",
        RedisResult::TimedOut => "timed_out",
        RedisResult::Skipped => "skipped",
    };
    counter!("bespeak_redis_calls_total", "call" => call, "result" => result).increment(1);
    if let Some(took) = took {
        histogram!("bespeak_redis_call_seconds", "call" => call).record(took);
    }
}

/// Sets whether the circuit breaker is open.
pub(crate) fn set_open_breaker(open: bool) {
    gauge!("bespeak_redis_open_breakers").set(if open { 1.0 } else { 0.0 });
}

/// Counts a hint or a message of the sold-out channel.
pub(crate) fn count_sold_out_message(became: SoldOutMessage) {
    let result = match became {
        SoldOutMessage::Published => "published",
        SoldOutMessage::Dropped => "dropped",
        SoldOutMessage::Learnt => "learnt",
        SoldOutMessage::Outdated => "outdated",
    };
    counter!("bespeak_redis_gate_messages_total", "result" => result).increment(1);
}

/// Counts holds that were refused because of a finding of another process.
pub(crate) fn count_refused_from_elsewhere(refusals: u64) {
    static REFUSALS: OnceLock<Counter> = OnceLock::new();
    if refusals > 0 {
        REFUSALS.get_or_init(|| counter!("bespeak_redis_gate_refusals_total")).increment(refusals);
    }
}

/// Counts a request that the rate limit checked.
pub(crate) fn count_rate_limit(result: &'static str) {
    counter!("bespeak_rate_limit_requests_total", "result" => result).increment(1);
}

/// Counts a request that was checked against the local rate limit of this process.
pub(crate) fn count_rate_limited_locally() {
    counter!("bespeak_rate_limit_local_total").increment(1);
}
