//! How fast a relay drains an outbox.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::{
    events::{
        KafkaOptions,
        kafka::KafkaPublisher,
        relay::{Relay, RelayOptions},
    },
    store::{OutboxStore, Store},
};
use bespeak_lab::load::thousands;

use super::{
    Backlog, Broker, SOURCE,
    backlog::EVENTS,
    migrated, plain,
    timed::{TimedOutbox, TimedPublisher},
    watch::Watch,
};
use crate::{
    Error,
    cases::Bench,
    chart::Chart,
    mysql::Database,
    report::{Section, median, verdict},
};

/// Published events that wait to be purged: copies of the backlog.
const PUBLISHED_COPIES: u64 = 5;
/// What is drained beside them.
const BESIDE: u64 = 50_000;

/// How a relay drained an outbox.
struct Drained {
    events_per_second: f64,
    /// Parts of its time, 0 to 1.
    reading: f64,
    publishing: f64,
    marking: f64,
}

pub(crate) async fn drain(bench: &Bench, database: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let (mut rates, mut plain_rates, mut parts) = (Vec::new(), Vec::new(), [const { Vec::new() }; 3]);
    for _ in 0..bench.rounds {
        let (name, store) = migrated(database).await?;
        backlog.copy(database, &name, EVENTS).await?;
        database.settle().await?;
        let drained = drained(&broker, store.clone(), EVENTS).await?;
        store.close().await;
        database.drop(&name).await?;
        rates.push(drained.events_per_second);
        for (all, part) in parts.iter_mut().zip([drained.reading, drained.publishing, drained.marking]) {
            all.push(part);
        }

        let events = backlog.events(database).await?;
        let records = events.iter().map(|event| bespeak::envelope::record(event, SOURCE)).collect();
        drop(events);
        let topic = broker.topic_made().await?;
        plain_rates.push(per_second(EVENTS, plain::send(&topic, records).await?));
    }
    let ratio = ratio(&rates, &plain_rates);
    let (rate, plain_rate) = (median(rates), median(plain_rates));
    let mut relay = vec!["relay".to_owned(), thousands(rate)];
    relay.extend(parts.map(|part| percent(median(part))));
    let none = "n/a".to_owned();
    Ok(Section {
        title: "Events: draining a backlog",
        what: format!(
            "{} rows of the outbox ({}) to a topic of 12 partitions, by one relay, its leases included; beside it rdkafka's \
             producer alone with the same records and settings (idempotent, acks=all, lz4, linger 1 ms), which reads and \
             notes nothing and keeps no two events of a key apart. All on the same cores. The relay reads, publishes and marks \
             one batch after the other: these are the parts of its time.",
            thousands(count_of(EVENTS)),
            backlog.describe()
        ),
        header: vec!["who", "events/s", "reading", "publishing", "marking"],
        rows: vec![
            relay,
            vec![
                "rdkafka's producer alone".to_owned(),
                thousands(plain_rate),
                none.clone(),
                none.clone(),
                none,
            ],
        ],
        verdict: format!(
            "The relay reaches {} of what the producer alone does, pair by pair.\n\n{} {}",
            percent(ratio),
            verdict(rate >= 20_000.0, "at least 20,000 events/s"),
            verdict(ratio >= 0.8, "(an aim) 80 % of the producer alone")
        ),
        chart: Some(Chart {
            title: "Events per second into the topic",
            bars: vec![("relay".to_owned(), rate), ("rdkafka's producer alone".to_owned(), plain_rate)],
        }),
    })
}

pub(crate) async fn purge(bench: &Bench, database: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let (full, full_store) = migrated(database).await?;
    for _ in 0..PUBLISHED_COPIES {
        backlog.copy_published(database, &full).await?;
    }
    let (mut empty_rates, mut full_rates) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (empty, empty_store) = migrated(database).await?;
        for (name, store, rates) in
            [(&empty, &empty_store, &mut empty_rates), (&full, &full_store, &mut full_rates)]
        {
            backlog.copy(database, name, BESIDE).await?;
            database.settle().await?;
            rates.push(drained(&broker, store.clone(), BESIDE).await?.events_per_second);
        }
        empty_store.close().await;
        database.drop(&empty).await?;
    }
    full_store.close().await;
    database.drop(&full).await?;
    let ratio = ratio(&full_rates, &empty_rates);
    let published = PUBLISHED_COPIES * EVENTS;
    Ok(Section {
        title: "Events: published events that wait to be purged",
        what: format!(
            "{} rows of the outbox to a topic by one relay, in turn from a table with nothing else and from one with {} \
             published rows, once what filling them left to be written was written.",
            thousands(count_of(BESIDE)),
            thousands(count_of(published))
        ),
        header: vec!["nothing else, events/s", "beside published rows, events/s", "ratio, pair by pair"],
        rows: vec![vec![
            thousands(median(empty_rates)),
            thousands(median(full_rates)),
            format!("{ratio:.2}"),
        ]],
        verdict: verdict(ratio >= 0.85, "within 15 %"),
        chart: None,
    })
}

/// Has a relay publish all that an outbox has, as a task of its own, as in a server.
async fn drained(broker: &Broker, store: Arc<dyn OutboxStore>, events: u64) -> Result<Drained, Error> {
    let topic = broker.topic_made().await?;
    let drained = tokio::spawn(relayed(topic.clone(), store, events)).await??;
    // Every event is there.
    Watch::start(&topic)?.finish(events).await?;
    Ok(drained)
}

async fn relayed(topic: KafkaOptions, store: Arc<dyn OutboxStore>, events: u64) -> Result<Drained, Error> {
    let outbox = Arc::new(TimedOutbox::new(store));
    let publisher = Arc::new(TimedPublisher::new(KafkaPublisher::new(&topic, SOURCE)?));
    let mut relay = Relay::new(outbox.clone(), publisher.clone(), RelayOptions::default());
    let started = Instant::now();
    let mut published = 0;
    loop {
        let step = relay.step().await?;
        if let Some(reason) = step.outage {
            return Err(reason.into());
        }
        if step.claimed == 0 {
            break;
        }
        published += step.published;
    }
    let took = started.elapsed();
    relay.leave().await?;
    if published != events {
        return Err(format!("{published} of {events} events were published").into());
    }
    Ok(Drained {
        events_per_second: per_second(events, took),
        reading: outbox.reading.part_of(took),
        publishing: publisher.publishing.part_of(took),
        marking: outbox.marking.part_of(took),
    })
}

/// The median of the ratios of what was measured in the same round.
fn ratio(these: &[f64], those: &[f64]) -> f64 {
    median(these.iter().zip(those).map(|(this, that)| this / that).collect())
}

pub(super) fn per_second(events: u64, took: Duration) -> f64 {
    count_of(events) / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "at most some millions")]
pub(super) fn count_of(events: u64) -> f64 {
    events as f64
}

pub(super) fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
