//! Every metric: its name, its help text, and the series that exist from the start.
//!
//! A counter or histogram exists from the start, at zero, with every set of labels that is known in advance:
//! Prometheus takes the first value that it sees as the start of a counter, and would miss what happened before. A
//! gauge exists once its value is known, because zero would claim that all is well although nothing was measured.
//! Next: the other files of this folder, which record the values.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// A metric.
struct Metric {
    /// Ends in its unit: `_seconds`, or what is counted; a counter ends in `_total`.
    name: &'static str,
    kind: MetricKind,
    /// The help text, for people. It explains the labels.
    help: &'static str,
}

enum MetricKind {
    /// Starts at zero with these labels.
    Counter(&'static [Labels]),
    /// Starts empty with these labels.
    Histogram(&'static [Labels]),
    /// Exists once it is set.
    Gauge,
}

/// Labels and their values: a series for every combination of one value each.
type Labels = &'static [(&'static str, &'static [&'static str])];

/// One series without labels.
const PLAIN: &[Labels] = &[&[]];
/// No series in advance: the labels are known only when the first value is recorded.
const AS_SEEN: &[Labels] = &[];

const fn counter(name: &'static str, begins: &'static [Labels], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter(begins), help }
}

const fn histogram(name: &'static str, begins: &'static [Labels], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram(begins), help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help }
}

const METRICS: &[Metric] = &[
    gauge("bespeak_build_info", "Always 1: which version runs, and on which database (sqlite or mysql)."),
    gauge(
        "bespeak_tasks_running",
        "Background tasks that run, by task; 0 means that one ended which should not, and the process ends too.",
    ),
    gauge(
        "bespeak_clock_skew_seconds",
        "How far the clock of the database is ahead of this machine's; with SQLite, how far it jumped since the start.",
    ),
    gauge(
        "bespeak_overdue_hold_seconds",
        "How long the oldest hold has been overdue that no timer, sweep or request has expired.",
    ),
    gauge("bespeak_verify_findings", "Violations that the last recorded audit of the database found."),
    gauge("bespeak_verify_age_seconds", "Time since the last recorded audit of the database."),
    counter("bespeak_http_requests_total", AS_SEEN, "HTTP requests answered, by method, route and status."),
    histogram(
        "bespeak_http_request_seconds",
        AS_SEEN,
        "Time from the head of a request to its response, by route.",
    ),
    gauge("bespeak_http_connections", "Open connections of clients."),
    counter(
        "bespeak_http_connections_closed_total",
        &[&[("reason", &["limit", "idle", "slow_head", "slow_reader"])]],
        "Connections ended by the server, by reason: limit (beyond BESPEAK_CONNECTIONS_MAX; answered once), idle (to \
         make room), slow_head or slow_reader.",
    ),
    counter("bespeak_commands_total", COMMANDS, "Commands, by kind (command) and outcome."),
    histogram("bespeak_lane_batch_commands", PLAIN, "Commands that shared one transaction."),
    gauge("bespeak_lane_queue_commands", "Commands that wait for a transaction, in all lanes together."),
    counter(
        "bespeak_refusals_from_memory_total",
        PLAIN,
        "Holds refused without a lock, because their resource was known to be sold out.",
    ),
    counter(
        "bespeak_expiries_total",
        &[&[("path", &["on_demand", "timer", "sweep"])]],
        "Holds expired, by path: on_demand (a command needed their units), timer, or sweep (a scheduled task).",
    ),
    histogram(
        "bespeak_store_transaction_seconds",
        PLAIN,
        "Time of the transaction of a batch, including retries.",
    ),
    counter(
        "bespeak_store_retries_total",
        &[&[(
            "cause",
            &["deadlock", "lock_timeout", "snapshot", "duplicate_key", "changed", "connection", "other"],
        )]],
        "Batches retried, by cause: they lost to another writer, or their connection broke.",
    ),
    counter(
        "bespeak_store_round_trips_total",
        PLAIN,
        "Packets of statements sent to the database, each with one reply.",
    ),
    gauge(
        "bespeak_pool_connections",
        "Open database connections, by pool (writers or readers) and state (in_use or idle).",
    ),
    gauge("bespeak_pool_max_connections", "Largest number of database connections, by pool."),
    gauge("bespeak_pool_waiting_calls", "Calls that wait for a database connection, by pool."),
    histogram(
        "bespeak_pool_wait_seconds",
        POOLS,
        "Time that calls waited for a database connection, by pool; includes opening one.",
    ),
    counter(
        "bespeak_pool_timeouts_total",
        POOLS,
        "Calls that timed out waiting for a database connection, by pool.",
    ),
    counter(
        "bespeak_purged_total",
        &[&[("what", &["events", "inbox", "reservations", "deliveries", "locks"])]],
        "Records deleted because they were old, by what: reservations, events, inbox rows, (webhook) deliveries or \
         (distributed) locks.",
    ),
    gauge("bespeak_outbox_unpublished_events", "Events in the outbox that await publication."),
    gauge(
        "bespeak_outbox_lag_seconds",
        "How long the oldest event that awaits publication has waited; 0 if none waits.",
    ),
    gauge(
        "bespeak_outbox_blocked_keys",
        "Keys that wait after a failure, by state: blocked (will be retried) or parked (awaits an operator).",
    ),
    counter("bespeak_relay_published_total", PLAIN, "Events published and marked as published."),
    counter(
        "bespeak_relay_refused_marks_total",
        PLAIN,
        "Events published whose mark was refused, because another relay holds their shard now: it publishes \
         them again.",
    ),
    counter("bespeak_relay_failed_total", PLAIN, "Failures to publish the next event of a key."),
    counter("bespeak_relay_parked_total", PLAIN, "Keys parked after too many failures."),
    counter(
        "bespeak_relay_outages_total",
        PLAIN,
        "Steps in which nothing could be published, because the event log or the database was unavailable.",
    ),
    counter(
        "bespeak_consumer_events_total",
        &[&[("result", &["applied", "duplicate", "stale", "dead_lettered"])]],
        "Events consumed, by result: applied, duplicate, stale or dead_lettered.",
    ),
    counter(
        "bespeak_consumer_dead_letters_total",
        &[&[("reason", &["no_event", "unknown_type", "data", "not_in_books", "refused"])]],
        "Records moved to the dead letters, by reason: no_event (not an event of Bespeak), unknown_type (perhaps of a \
         later version), data (does not match its type), not_in_books (the books contradict it) or refused (by the \
         database).",
    ),
    gauge(
        "bespeak_consumer_lag_events",
        "Events in the log that this consumer has not committed yet, over its assigned partitions.",
    ),
    counter(
        "bespeak_consumer_rebalances_total",
        PLAIN,
        "Times that partitions were assigned to this consumer or revoked from it.",
    ),
    counter(
        "bespeak_webhook_attempts_total",
        &[&[("result", &["delivered", "failed", "given_up"])]],
        "Attempts to deliver a webhook, by result: delivered, failed (will be retried) or given_up (was the last).",
    ),
    histogram(
        "bespeak_webhook_attempt_seconds",
        PLAIN,
        "Time from connecting to a receiver to the end of its response.",
    ),
    gauge(
        "bespeak_webhook_pending_deliveries",
        "Deliveries that await an attempt, by state of their endpoint: enabled or disabled.",
    ),
    gauge(
        "bespeak_webhook_overdue_seconds",
        "How long the oldest delivery that may be attempted has been due.",
    ),
    gauge(
        "bespeak_webhook_endpoints",
        "Webhook endpoints by state: closed (deliveries are attempted), open (its circuit is open after failures, and \
         deliveries wait), half_open (the next delivery is a probe) or disabled.",
    ),
    gauge(
        "bespeak_webhook_full_endpoints",
        "Webhook endpoints that have BESPEAK_WEBHOOK_PENDING_MAX pending deliveries: further events are enqueued as \
         failed.",
    ),
    counter(
        "bespeak_webhook_circuit_opened_total",
        PLAIN,
        "Times that the circuit of a webhook endpoint opened, because five attempts in a row failed.",
    ),
    counter(
        "bespeak_webhook_endpoints_disabled_total",
        PLAIN,
        "Webhook endpoints that were disabled because of their receivers: nothing was delivered for too long, or 410 \
         was confirmed.",
    ),
    counter(
        "bespeak_webhook_unsent_total",
        &[&[("reason", &["full", "disabled"])]],
        "Deliveries that were never attempted, by reason: full (too many were pending, enqueued as failed) or disabled \
         (deleted because their endpoint was disabled for longer than deliveries are kept).",
    ),
    counter(
        "bespeak_redis_calls_total",
        &[&[
            ("call", &["limit", "give_back", "publish", "probe"]),
            ("result", &["ok", "failed", "timed_out", "skipped"]),
        ]],
        "Calls to Redis, by call and result: ok, failed, timed_out, or skipped because the circuit breaker was open.",
    ),
    histogram(
        "bespeak_redis_call_seconds",
        &[&[("call", &["limit", "give_back", "publish", "probe"])]],
        "Time of calls to Redis, by call.",
    ),
    gauge(
        "bespeak_redis_open_breakers",
        "1 while the circuit breaker is open and Redis is not called; otherwise 0.",
    ),
    counter(
        "bespeak_redis_gate_messages_total",
        &[&[("result", &["published", "dropped", "learnt", "outdated"])]],
        "Hints about sold-out resources that processes exchange, by result: messages published; hints dropped (the \
         queue was full), learnt, or outdated on arrival.",
    ),
    counter(
        "bespeak_redis_gate_refusals_total",
        PLAIN,
        "Holds refused from memory because another process had found their resource to be sold out.",
    ),
    counter(
        "bespeak_rate_limit_requests_total",
        &[&[("result", &["allowed", "limited", "unnamed"])]],
        "Reserve requests checked by the rate limit, by result: allowed, limited (429), or unnamed (no holder).",
    ),
    counter(
        "bespeak_rate_limit_local_total",
        PLAIN,
        "Requests that this process checked against its local rate limit, because Redis is not configured \
         or did not answer.",
    ),
    counter(
        "bespeak_lock_acquisitions_total",
        &[&[LOCKS, ("result", &["acquired", "timed_out", "failed"])]],
        "Commands that tried to acquire distributed locks, by lock and result: acquired, timed_out (others held it) or \
         failed (its state was unknown).",
    ),
    counter(
        "bespeak_lock_waits_total",
        &[&[LOCKS]],
        "Commands that had to wait for a distributed lock, by lock.",
    ),
    histogram(
        "bespeak_lock_wait_seconds",
        &[&[LOCKS]],
        "Time that commands waited for a distributed lock, whether or not they acquired it, by lock.",
    ),
    counter(
        "bespeak_lock_lost_total",
        &[&[LOCKS]],
        "Distributed locks that expired before their holder was done, by lock.",
    ),
];

const LOCKS: (&str, &[&str]) = ("lock", &["database", "redlock"]);

const POOLS: &[Labels] = &[&[("pool", &["writers", "readers", "background", "metrics"])]];

/// The outcomes of commands that alerts and panels use.
const COMMANDS: &[Labels] = &[
    &[
        ("command", &["define", "reserve", "commit", "release", "extend", "cancel", "expire"]),
        ("outcome", &["accepted", "overloaded", "failed"]),
    ],
    &[
        ("command", &["reserve"]),
        (
            "outcome",
            &["replayed", "reservation-ended", "out-of-stock", "expiry-backlog", "idempotency-key-reused"],
        ),
    ],
    &[("command", &["commit", "extend"]), ("outcome", &["hold-expired"])],
];

/// Describes all metrics to the recorder, and creates the series that exist from the start.
pub(super) fn register() {
    for Metric { name, kind, help } in METRICS {
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match kind {
            MetricKind::Counter(begins) => {
                describe_counter!(*name, unit, *help);
                each_series(begins, |labels| counter!(*name, labels).increment(0));
            }
            MetricKind::Histogram(begins) => {
                describe_histogram!(*name, unit, *help);
                each_series(begins, |labels| drop(histogram!(*name, labels)));
            }
            MetricKind::Gauge => describe_gauge!(*name, unit, *help),
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
    fn names_end_in_their_unit_and_help_explains_labels() {
        const UNITS: [&str; 11] = [
            "_seconds",
            "_commands",
            "_connections",
            "_calls",
            "_events",
            "_keys",
            "_deliveries",
            "_endpoints",
            "_breakers",
            "_running",
            "_findings",
        ];
        for Metric { name, kind, help } in METRICS {
            let is_unit = match kind {
                MetricKind::Counter(_) => name.ends_with("_total"),
                MetricKind::Histogram(_) => UNITS[..2].iter().any(|unit| name.ends_with(unit)),
                // An info metric has no unit: <https://prometheus.io/docs/specs/om/open_metrics_spec/#info>.
                MetricKind::Gauge => UNITS.iter().any(|unit| name.ends_with(unit)) || name.ends_with("_info"),
            };
            assert!(is_unit && name.starts_with("bespeak_"), "{name}");
            assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
            let (MetricKind::Counter(begins) | MetricKind::Histogram(begins)) = kind else { continue };
            for (label, _) in begins.iter().flat_map(|labels| labels.iter()) {
                assert!(help.contains(label), "the help of {name} does not explain {label}: {help}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }
}
