//! The metrics of what processes share through Redis: calls, the breaker, the gate, the rate limit.

use std::{sync::OnceLock, time::Duration};

use metrics::{Counter, counter, gauge, histogram};

/// What Redis is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisCall {
    /// To count a request.
    Limit,
    /// Not to have counted one.
    GiveBack,
    /// To tell others what is sold out.
    Publish,
    /// Whether it is there.
    Probe,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisResult {
    Ok,
    Failed,
    TimedOut,
    /// The breaker is open.
    Skipped,
}

/// What became of a notice or a message of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateMessage {
    /// Redis has it.
    Published,
    /// It did not fit the queue.
    Dropped,
    /// It was news.
    Learnt,
    /// It was older than what is known.
    Outdated,
}

/// Counts a call, and how long it took if it was made.
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

/// Notes whether Redis is not asked at present.
pub(crate) fn set_breaker(open: bool) {
    gauge!("bespeak_redis_open_breakers").set(if open { 1.0 } else { 0.0 });
}

/// Counts a notice or a message of the gate.
pub(crate) fn count_gate_message(became: GateMessage) {
    let result = match became {
        GateMessage::Published => "published",
        GateMessage::Dropped => "dropped",
        GateMessage::Learnt => "learnt",
        GateMessage::Outdated => "outdated",
    };
    counter!("bespeak_redis_gate_messages_total", "result" => result).increment(1);
}

/// Counts holds that were refused on another process's word.
pub(crate) fn count_refused_by_gate(refusals: u64) {
    static REFUSALS: OnceLock<Counter> = OnceLock::new();
    if refusals > 0 {
        REFUSALS.get_or_init(|| counter!("bespeak_redis_gate_refusals_total")).increment(refusals);
    }
}

/// Counts a request that the rate limit looked at.
pub(crate) fn count_limited(result: &'static str) {
    counter!("bespeak_rate_limit_requests_total", "result" => result).increment(1);
}

/// Counts one that this process judged alone.
pub(crate) fn count_limited_locally() {
    counter!("bespeak_rate_limit_local_total").increment(1);
}
