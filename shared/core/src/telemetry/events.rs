//! Metrics of events: the outbox, the relay, the consumer.

use std::time::Duration;

use metrics::{counter, gauge};

/// The results of one step of the relay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RelayCounts {
    /// Events that were published and marked.
    pub(crate) published: u64,
    /// Marks that were refused because another relay holds the shard now.
    pub(crate) refused: u64,
    /// Events that the event log refused.
    pub(crate) failed: u64,
    /// Keys that were parked.
    pub(crate) parked: u64,
    /// Whether the database or the event log was unavailable.
    pub(crate) outage: bool,
}

/// Counts the results of a step of the relay.
pub(crate) fn count_relay_step(counts: RelayCounts) {
    counter!("bespeak_relay_published_total").increment(counts.published);
    counter!("bespeak_relay_refused_marks_total").increment(counts.refused);
    counter!("bespeak_relay_failed_total").increment(counts.failed);
    counter!("bespeak_relay_parked_total").increment(counts.parked);
    if counts.outage {
        counter!("bespeak_relay_outages_total").increment(1);
    }
}

/// Sets the gauges of the outbox: unpublished events, the age of the oldest, and keys that are blocked or parked.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_backlog(unpublished: u64, lag: Duration, blocked: u64, parked: u64) {
    gauge!("bespeak_outbox_unpublished_events").set(unpublished as f64);
    gauge!("bespeak_outbox_lag_seconds").set(lag.as_secs_f64());
    gauge!("bespeak_outbox_blocked_keys", "state" => "blocked").set(blocked as f64);
    gauge!("bespeak_outbox_blocked_keys", "state" => "parked").set(parked as f64);
}

/// Counts the events of a batch that a consumer processed.
pub(crate) fn count_consumed(applied: u64, duplicates: u64, stale: u64) {
    counter!("bespeak_consumer_events_total", "result" => "applied").increment(applied);
    counter!("bespeak_consumer_events_total", "result" => "duplicate").increment(duplicates);
    counter!("bespeak_consumer_events_total", "result" => "stale").increment(stale);
}

/// Counts a record that a consumer moved to the dead letters, by reason.
pub(crate) fn count_dead_lettered(reason: &'static str) {
    counter!("bespeak_consumer_events_total", "result" => "dead_lettered").increment(1);
    counter!("bespeak_consumer_dead_letters_total", "reason" => reason).increment(1);
}

/// Sets how many events a consumer is behind the end of its partitions.
#[cfg(feature = "kafka")]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_consumer_lag(events: u64) {
    gauge!("bespeak_consumer_lag_events").set(events as f64);
}

/// Counts a change of the partitions that are assigned to this consumer.
#[cfg(feature = "kafka")]
pub(crate) fn count_rebalance() {
    counter!("bespeak_consumer_rebalances_total").increment(1);
}
