//! Metrics of webhook deliveries.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// Counts an attempt to deliver a webhook.
pub(crate) fn count_webhook(result: &'static str) {
    counter!("bespeak_webhook_attempts_total", "result" => result).increment(1);
}

/// Records the duration of an attempt to deliver a webhook.
pub(crate) fn observe_webhook_attempt(took: Duration) {
    histogram!("bespeak_webhook_attempt_seconds").record(took);
}

/// Sets the gauges of pending deliveries: to enabled endpoints, to disabled ones, and how long the oldest is overdue.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_webhook_backlog(enabled: u64, disabled: u64, overdue: Duration) {
    gauge!("bespeak_webhook_pending_deliveries", "endpoint" => "enabled").set(enabled as f64);
    gauge!("bespeak_webhook_pending_deliveries", "endpoint" => "disabled").set(disabled as f64);
    gauge!("bespeak_webhook_overdue_seconds").set(overdue.as_secs_f64());
}

/// Sets the gauges of endpoints by their state.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_webhook_endpoints(by_state: &[(&'static str, u64)]) {
    for (state, count) in by_state {
        gauge!("bespeak_webhook_endpoints", "state" => *state).set(*count as f64);
    }
}

/// Sets the gauge of endpoints that have too many deliveries pending.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_webhook_endpoints_full(count: u64) {
    gauge!("bespeak_webhook_full_endpoints").set(count as f64);
}

/// Counts an endpoint whose circuit opened.
pub(crate) fn count_webhook_circuit_opened() {
    counter!("bespeak_webhook_circuit_opened_total").increment(1);
}

/// Counts an endpoint that was disabled because of its receiver.
pub(crate) fn count_webhook_endpoint_disabled() {
    counter!("bespeak_webhook_endpoints_disabled_total").increment(1);
}

/// Counts events that were never attempted: enqueued as failed (`full`), or purged while their endpoint was disabled
/// (`disabled`).
pub(crate) fn count_webhook_unsent(reason: &'static str, count: u64) {
    counter!("bespeak_webhook_unsent_total", "reason" => reason).increment(count);
}
