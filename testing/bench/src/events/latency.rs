//! The time from the decision that creates an event until other clients can read the event.

use std::time::{Duration, Instant};

use bespeak::engine::Timestamp;
use bespeak_lab::load::{OpenLoop, Recorder, Summary, open_loop, thousands};
use tempfile::TempDir;

use super::{
    broker::{Broker, url},
    tables::count,
    watch::{Arrival, Watch},
};
use crate::{
    Error,
    bench::Bench,
    client::{define, hold_request, only},
    mysql::Database,
    report::{Section, median, verdict},
    server::Server,
};

const HOLDS_PER_SECOND: u32 = 1_000;
const CONNECTIONS: usize = 64;
/// The time limit from the arrival of the last event until all events are marked as published.
const MARKED_WITHIN: Duration = Duration::from_secs(10);

/// The figures of one round.
struct Round {
    holds_per_second: f64,
    /// The time until the relay handed events to its producer.
    sent: Summary,
    /// The time until events were marked as published, which the relay does when the broker has acknowledged them.
    marked: Summary,
    /// The time until an outside consumer received events.
    received: Summary,
}

pub(crate) async fn latency(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let mut rows = Vec::new();
    let mut of_default = None;
    for (name, consumer) in [("default settings", "on"), ("BESPEAK_CONSUMER=off", "off")] {
        let mut rounds = Vec::new();
        for _ in 0..bench.rounds {
            rounds.push(round(bench, database, &broker, consumer).await?);
        }
        let rate = median(rounds.iter().map(|round| round.holds_per_second).collect());
        let mut row = |until: &str, summary: fn(&Round) -> &Summary| {
            let of = |figure: fn(&Summary) -> f64| {
                median(rounds.iter().map(|round| figure(summary(round))).collect())
            };
            let (p50, p99) = (of(|summary| summary.p50_ms), of(|summary| summary.p99_ms));
            let (p95, max) = (of(|summary| summary.p95_ms), of(|summary| summary.max_ms));
            let mut row = vec![name.to_owned(), thousands(rate), until.to_owned()];
            row.extend([p50, p95, p99, max].map(|ms| format!("{ms:.1}")));
            rows.push(row);
            (p50, p99)
        };
        row("handed to the relay's producer", |round| &round.sent);
        row("acknowledged and marked in the outbox", |round| &round.marked);
        let received = row("read by an outside consumer", |round| &round.received);
        of_default.get_or_insert(received);
    }
    let (p50, p99) = of_default.unwrap_or((f64::NAN, f64::NAN));
    Ok(Section {
        title: "Events: from commit to Kafka",
        what: format!(
            "`bespeak serve` with MySQL and Kafka at {} holds/s on one hot resource, in an open loop: requests are \
             sent on schedule and do not wait for responses. Times are counted from `ce_time`, the database's \
             clock when the hold was decided, just before its COMMIT, until three points: the record's timestamp \
             (CreateTime, whole milliseconds); `published_at`, which is read from the same clock after the \
             broker's acknowledgement; and the time when a plain rdkafka consumer receives the record, which is \
             the figure of the target. The last one includes the broker and the path to that consumer, which polls \
             every millisecond because Tansu does not wake a waiting fetch. The event of every hold arrived.",
            thousands(f64::from(HOLDS_PER_SECOND))
        ),
        header: vec!["`serve`", "holds/s", "until", "p50 ms", "p95 ms", "p99 ms", "max ms"],
        rows,
        verdict: verdict(
            p50 < 10.0 && p99 < 50.0,
            "`serve` with default settings, until read by an outside consumer: p50 under 10 ms, p99 under 50 ms",
        ),
        chart: None,
    })
}

async fn round(bench: &Bench, database: &Database, broker: &Broker, consumer: &str) -> Result<Round, Error> {
    let topic = broker.topic()?;
    let name = database.fresh().await?;
    let (books, log) = (database.url(&name, None)?, url(&topic));
    let settings = [
        ("BESPEAK_DATABASE_URL", books.as_str()),
        ("BESPEAK_EVENTS_URL", &log),
        ("BESPEAK_CONSUMER_GROUP", &topic.group),
        ("BESPEAK_CONSUMER", consumer),
    ];
    // The server accepts connections only when the topic exists.
    let server = Server::bespeak(&bench.binary, TempDir::new()?, &settings).await?;
    let target = server.target()?;
    define(&target, "hot", 9_000_000_000).await?;
    let watch = Watch::start(&topic)?;
    let load = OpenLoop {
        per_second: HOLDS_PER_SECOND,
        connections: CONNECTIONS,
        warm_up: bench.warm_up,
        duration: bench.duration,
        late_max: Duration::from_secs(60),
    };
    let from = Timestamp::now() + bench.warm_up;
    let summary = open_loop(&target, &load, hold_request("hot".into())).await?.summary();
    only(&summary, "200")?;
    let arrivals = watch.finish(count(database, &format!("{name}.outbox")).await?).await?;
    let marked = marked(bench, database, &name, from).await?;
    drop(server);
    database.drop(&name).await?;
    let counted: Vec<Arrival> = arrivals.into_iter().filter(|arrival| arrival.happened >= from).collect();
    Ok(Round {
        holds_per_second: summary.requests_per_second,
        sent: waited(bench, &counted, |arrival| arrival.sent),
        marked,
        received: waited(bench, &counted, |arrival| arrival.received),
    })
}

/// The time that the events since `from` waited until they were marked as published.
async fn marked(bench: &Bench, database: &Database, name: &str, from: Timestamp) -> Result<Summary, Error> {
    let waiting = format!("{name}.outbox WHERE published_at IS NULL");
    let deadline = Instant::now() + MARKED_WITHIN;
    while count(database, &waiting).await? > 0 {
        if Instant::now() > deadline {
            return Err("events are in the topic but not marked as published".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waited = format!(
        "SELECT published_at - created_at FROM {name}.outbox WHERE created_at >= {}",
        from.as_microsecond()
    );
    let mut recorder = Recorder::new();
    for micros in database.numbers(&waited).await? {
        recorder.answered(200, Duration::from_micros(u64::try_from(micros)?));
    }
    Ok(recorder.summary(bench.duration))
}

/// The time from the event to a point that `until` selects.
fn waited(bench: &Bench, arrivals: &[Arrival], until: impl Fn(&Arrival) -> Timestamp) -> Summary {
    let mut recorder = Recorder::new();
    for arrival in arrivals {
        // A record's timestamp is in whole milliseconds, so it may be earlier than the event; then the time is 0.
        let waited = until(arrival).duration_since(arrival.happened);
        recorder.answered(200, Duration::try_from(waited).unwrap_or_default());
    }
    recorder.summary(bench.duration)
}
