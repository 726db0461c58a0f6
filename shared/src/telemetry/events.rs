//! The metrics of events: the outbox, the relay, the consumer.

use metrics::{counter, gauge};

use crate::{
    events::relay::Step,
    store::{Applied, Backlog},
};

/// Notes what a step of the relay did; `None` where it failed.
pub(crate) fn note_relay(step: Option<&Step>) {
    let Some(step) = step else {
        counter!("bespeak_relay_outages_total").increment(1);
        return;
    };
    counter!("bespeak_relay_published_total").increment(step.published);
    counter!("bespeak_relay_refused_marks_total").increment(step.refused);
    counter!("bespeak_relay_failed_total").increment(step.failed);
    counter!("bespeak_relay_parked_total").increment(step.parked);
    if step.outage.is_some() {
        counter!("bespeak_relay_outages_total").increment(1);
    }
}

/// Notes how much waits.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn note_backlog(backlog: &Backlog) {
    gauge!("bespeak_outbox_unpublished_events").set(backlog.unpublished as f64);
    let lag = backlog.oldest.map_or(0.0, |oldest| backlog.now.duration_since(oldest).as_secs_f64());
    gauge!("bespeak_outbox_lag_seconds").set(lag.max(0.0));
    gauge!("bespeak_outbox_blocked_keys", "state" => "blocked").set(backlog.blocked as f64);
    gauge!("bespeak_outbox_blocked_keys", "state" => "parked").set(backlog.parked as f64);
}

/// Counts what a consumer applied.
pub(crate) fn count_consumed(applied: &Applied) {
    counter!("bespeak_consumer_events_total", "result" => "applied").increment(applied.applied);
    counter!("bespeak_consumer_events_total", "result" => "duplicate").increment(applied.duplicates);
    counter!("bespeak_consumer_events_total", "result" => "stale").increment(applied.stale);
}

/// Counts a record that a consumer set aside, by what was wrong with it.
pub(crate) fn count_dead_lettered(reason: &'static str) {
    counter!("bespeak_consumer_events_total", "result" => "dead_lettered").increment(1);
    counter!("bespeak_consumer_dead_letters_total", "reason" => reason).increment(1);
}

/// Notes how far a consumer is behind.
#[cfg(feature = "kafka")]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn note_consumer_lag(events: u64) {
    gauge!("bespeak_consumer_lag_events").set(events as f64);
}

/// Counts a change of the partitions that this consumer has.
#[cfg(feature = "kafka")]
pub(crate) fn count_rejoined() {
    counter!("bespeak_consumer_rebalances_total").increment(1);
}
