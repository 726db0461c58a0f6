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
