//! Every metric: what it is called, what it says, and which series it begins with.
//!
//! A counter or histogram is there from the start, at zero, with every set of labels that is known before it happens:
//! Prometheus takes the first value that it sees for where a counter began, and would miss what happened before. A gauge is
//! there once something is known: zero would say that all is well where nobody has looked. Next: the functions in
//! `telemetry.rs` and `events.rs`, which count.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// One metric.
struct Metric {
    /// Ends in its unit: `_seconds`, or what is counted; of counters `_total`.
    name: &'static str,
    kind: Kind,
    /// What it says, for people. Labels are named here.
    help: &'static str,
}

enum Kind {
    /// It begins at zero with these labels.
    Counter(&'static [Labels]),
    /// As with counters.
    Histogram(&'static [Labels]),
    /// It begins when it is set.
    Gauge,
}

/// Labels and their values: a series for every choice of one value each.
type Labels = &'static [(&'static str, &'static [&'static str])];

/// One series without labels.
const PLAIN: &[Labels] = &[&[]];
/// Labels that are known when it happens.
const AS_SEEN: &[Labels] = &[];

const fn counter(name: &'static str, begins: &'static [Labels], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter(begins), help }
}

const fn histogram(name: &'static str, begins: &'static [Labels], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram(begins), help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const METRICS: &[Metric] = &[
    gauge("bespeak_build_info", "Always 1: which version runs, and on which database (sqlite or mysql)."),
    counter("bespeak_http_requests_total", AS_SEEN, "Requests answered, by method, route and status."),
    histogram("bespeak_http_request_seconds", AS_SEEN, "From a request's head to its answer, by route."),
    counter("bespeak_commands_total", COMMANDS, "Commands, by kind (command) and outcome."),
    histogram("bespeak_lane_batch_commands", PLAIN, "Commands that shared one transaction."),
    gauge("bespeak_lane_queue_commands", "Commands that wait for a transaction, in all lanes together."),
    counter(
        "bespeak_refusals_from_memory_total",
        PLAIN,
        "Holds refused without a lock: their resource was known to be sold out.",
    ),
    counter(
        "bespeak_expiries_total",
        &[&[("path", &["on_demand", "timer", "sweep"])]],
        "Holds expired, by path: on_demand (somebody wanted their units), timer, or sweep (a scheduled task).",
    ),
    histogram("bespeak_store_transaction_seconds", PLAIN, "A batch's transaction, retries included."),
    counter(
        "bespeak_store_retries_total",
        &[&[(
            "cause",
            &["deadlock", "lock_timeout", "snapshot", "duplicate_key", "changed", "connection", "other"],
        )]],
        "Batches run again, by cause: they lost to another writer, or their connection broke.",
    ),
    counter(
        "bespeak_store_round_trips_total",
        PLAIN,
        "Packets of statements sent to the database, each with one answer.",
    ),
    gauge(
        "bespeak_pool_connections",
        "Database connections that are open, by pool (writers or readers) and state (in_use or idle).",
    ),
    gauge("bespeak_pool_max_connections", "Database connections that there may be, by pool."),
    gauge("bespeak_pool_waiting_calls", "Calls that wait for a database connection, by pool."),
    histogram(
        "bespeak_pool_wait_seconds",
        POOLS,
        "How long calls waited for a database connection, by pool; opening one included.",
    ),
    counter(
        "bespeak_pool_timeouts_total",
        POOLS,
        "Calls that gave up waiting for a database connection, by pool.",
    ),
    counter(
        "bespeak_purged_total",
        &[&[("what", &["events", "inbox", "reservations", "deliveries", "locks"])]],
        "Records forgotten because they were old, by what: reservations, events, inbox rows, (webhook) deliveries or \
         (distributed) locks.",
    ),
    gauge("bespeak_outbox_unpublished_events", "Events in the outbox that await publication."),
    gauge(
        "bespeak_outbox_lag_seconds",
        "How long the oldest event that awaits publication has waited; 0 where none does.",
    ),
    gauge(
        "bespeak_outbox_blocked_keys",
        "Keys that wait after a failure, by state: blocked (tried again) or parked (awaits an operator).",
    ),
    counter("bespeak_relay_published_total", PLAIN, "Events published and marked so."),
    counter(
        "bespeak_relay_refused_marks_total",
        PLAIN,
        "Events published whose mark was refused, because another relay holds their shard now: it sends them again.",
    ),
    counter("bespeak_relay_failed_total", PLAIN, "Keys whose event could not be published, each time."),
    counter("bespeak_relay_parked_total", PLAIN, "Keys that were parked after too many failures."),
    counter(
        "bespeak_relay_outages_total",
        PLAIN,
        "Steps in which nothing could be published: the event log or the database was away.",
    ),
    counter(
        "bespeak_consumer_events_total",
        &[&[("result", &["applied", "duplicate", "stale", "dead_lettered"])]],
        "Events consumed, by result: applied, duplicate, stale or dead_lettered.",
    ),
    counter(
        "bespeak_consumer_dead_letters_total",
        &[&[("reason", &["no_event", "unknown_type", "data", "refused"])]],
        "Records set aside, by reason: no_event (not one of ours), unknown_type (perhaps of a later version), data (not \
         what its type says) or refused (by the database).",
    ),
    gauge(
        "bespeak_consumer_lag_events",
        "Events in the log that this consumer has not yet committed, over the partitions that it has.",
    ),
    counter(
        "bespeak_consumer_rebalances_total",
        PLAIN,
        "How often partitions were assigned to this consumer or taken from it.",
    ),
    counter(
        "bespeak_webhook_attempts_total",
        &[&[("result", &["delivered", "failed", "given_up"])]],
        "Attempts to deliver a webhook, by result: delivered, failed (comes again), given_up (was the last).",
    ),
    histogram(
        "bespeak_webhook_attempt_seconds",
        PLAIN,
        "From connecting to a receiver to the end of its answer.",
    ),
    gauge(
        "bespeak_webhook_pending_deliveries",
        "Deliveries that await an attempt, by state of their endpoint: enabled or disabled.",
    ),
    gauge(
        "bespeak_webhook_overdue_seconds",
        "For how long the oldest delivery that may be attempted has been due.",
    ),
    counter(
        "bespeak_redis_calls_total",
        &[&[
            ("call", &["limit", "give_back", "publish", "probe"]),
            ("result", &["ok", "failed", "timed_out", "skipped"]),
        ]],
        "Calls of Redis, by call and result: ok, failed, timed_out, or skipped because the breaker was open.",
    ),
    histogram(
        "bespeak_redis_call_seconds",
        &[&[("call", &["limit", "give_back", "publish", "probe"])]],
        "How long Redis was waited for, by call.",
    ),
    gauge("bespeak_redis_open_breakers", "1 while Redis is not asked, because it did not answer; else 0."),
    counter(
        "bespeak_redis_gate_messages_total",
        &[&[("result", &["published", "dropped", "learnt", "outdated"])]],
        "What became of notices between processes, by result: messages published; notices dropped (the queue was full), \
         learnt, or outdated when they came.",
    ),
    counter(
        "bespeak_redis_gate_refusals_total",
        PLAIN,
        "Of the holds refused from memory, those that another process had found to be sold out.",
    ),
    counter(
        "bespeak_rate_limit_requests_total",
        &[&[("result", &["allowed", "limited", "unnamed"])]],
        "Requests for units that the rate limit looked at, by result: allowed, limited (429), or unnamed (no holder).",
    ),
    counter(
        "bespeak_rate_limit_local_total",
        PLAIN,
        "Of these, those that this process judged alone: there is no Redis, or it did not answer.",
    ),
    counter(
        "bespeak_lock_acquisitions_total",
        &[&[LOCKS, ("result", &["acquired", "timed_out", "failed"])]],
        "Commands that asked for distributed locks, by lock and result: acquired, timed_out (others held it) or failed \
         (nobody could say).",
    ),
    counter(
        "bespeak_lock_waits_total",
        &[&[LOCKS]],
        "Of these, those that found a lock held by others, by lock.",
    ),
    histogram(
        "bespeak_lock_wait_seconds",
        &[&[LOCKS]],
        "How long those waited, whether or not they got it, by lock.",
    ),
    counter(
        "bespeak_lock_lost_total",
        &[&[LOCKS]],
        "Distributed locks that ended before their holder was done, by lock.",
    ),
];

const LOCKS: (&str, &[&str]) = ("lock", &["database", "redlock"]);

const POOLS: &[Labels] = &[&[("pool", &["writers", "readers"])]];

/// What became of commands, as far as an alert or a panel asks for it.
const COMMANDS: &[Labels] = &[
    &[
        ("command", &["define", "reserve", "commit", "release", "extend", "cancel", "expire"]),
        ("outcome", &["accepted", "overloaded", "failed"]),
    ],
    &[
        ("command", &["reserve"]),
        ("outcome", &["replayed", "out-of-stock", "expiry-backlog", "idempotency-key-reused"]),
    ],
    &[("command", &["commit", "extend"]), ("outcome", &["hold-expired"])],
];

/// Describes them all to the recorder, and begins those that begin at zero.
pub(super) fn register() {
    for Metric { name, kind, help } in METRICS {
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match kind {
            Kind::Counter(begins) => {
                describe_counter!(*name, unit, *help);
                each_series(begins, |labels| counter!(*name, labels).increment(0));
            }
            Kind::Histogram(begins) => {
                describe_histogram!(*name, unit, *help);
                each_series(begins, |labels| drop(histogram!(*name, labels)));
            }
            Kind::Gauge => describe_gauge!(*name, unit, *help),
        }
    }
}

fn each_series(begins: &[Labels], begin: impl Fn(Vec<Label>)) {
    for labels in begins {
        let mut series = vec![Vec::new()];
        for (label, values) in *labels {
            series = series
                .iter()
                .flat_map(|earlier: &Vec<Label>| {
                    values.iter().map(move |value| {
                        let label = Label::from_static_parts(label, value);
                        earlier.iter().cloned().chain([label]).collect()
                    })
                })
                .collect();
        }
        series.into_iter().for_each(&begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_in_its_unit_and_a_description_names_its_labels() {
        const UNITS: [&str; 8] = [
            "_seconds",
            "_commands",
            "_connections",
            "_calls",
            "_events",
            "_keys",
            "_deliveries",
            "_breakers",
        ];
        for Metric { name, kind, help } in METRICS {
            let is_unit = match kind {
                Kind::Counter(_) => name.ends_with("_total"),
                Kind::Histogram(_) => UNITS[..2].iter().any(|unit| name.ends_with(unit)),
                // An info has no unit: <https://prometheus.io/docs/specs/om/open_metrics_spec/#info>.
                Kind::Gauge => UNITS.iter().any(|unit| name.ends_with(unit)) || name.ends_with("_info"),
            };
            assert!(is_unit && name.starts_with("bespeak_"), "{name}");
            assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
            let (Kind::Counter(begins) | Kind::Histogram(begins)) = kind else { continue };
            for (label, _) in begins.iter().flat_map(|labels| labels.iter()) {
                assert!(help.contains(label), "{name} does not say what {label} is: {help}");
            }
        }
    }

    #[test]
    fn each_is_there_once() {
        let names: std::collections::BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }
}
