//! The rate at which a relay drains an outbox.

use std::{sync::Arc, time::Instant};

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
    backlog::{Backlog, EVENTS},
    broker::{Broker, SOURCE},
    plain,
    tables::migrated,
    timed::{TimedOutbox, TimedPublisher},
    watch::Watch,
};
use crate::{
    Error,
    bench::Bench,
    chart::Chart,
    mysql::Database,
    report::{Section, count_of, median, per_second, percent, verdict},
};

/// The published events that are due to be purged, in copies of the backlog.
const PUBLISHED_COPIES: u64 = 5;
/// The number of unpublished events beside them.
const UNPUBLISHED: u64 = 50_000;

/// The figures of a relay that has drained an outbox.
struct Drained {
    events_per_second: f64,
    /// The shares of its time, between 0 and 1.
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
        database.wait_for_flush().await?;
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
        let topic = broker.created_topic().await?;
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
            "One relay publishes {} rows of the outbox ({}) to a topic of 12 partitions, which includes its \
             leases. The base is rdkafka's producer alone with the same records and settings (idempotent, \
             acks=all, lz4, linger 1 ms): it reads and marks nothing, and does not wait between two events of a \
             key. Both share their cores with database and broker. The relay reads, publishes and marks one batch \
             after the other; the columns are the shares of its time.",
            thousands(count_of(EVENTS)),
            backlog.describe()
        ),
        header: vec!["publisher", "events/s", "reading", "publishing", "marking"],
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
            "The relay reaches {} of the producer's rate, pair by pair.\n\n{} {}",
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
            backlog.copy(database, name, UNPUBLISHED).await?;
            database.wait_for_flush().await?;
            rates.push(drained(&broker, store.clone(), UNPUBLISHED).await?.events_per_second);
        }
        empty_store.close().await;
        database.drop(&empty).await?;
    }
    full_store.close().await;
    database.drop(&full).await?;
    let ratio = ratio(&full_rates, &empty_rates);
    let published = PUBLISHED_COPIES * EVENTS;
    Ok(Section {
        title: "Events: published events that are due to be purged",
        what: format!(
            "One relay publishes {} rows of the outbox to a topic, in turn from a table without other rows and \
             from one with {} published rows. Each measurement starts when the database has written its dirty \
             pages to disk.",
            thousands(count_of(UNPUBLISHED)),
            thousands(count_of(published))
        ),
        header: vec!["no other rows, events/s", "beside published rows, events/s", "ratio, pair by pair"],
        rows: vec![vec![
            thousands(median(empty_rates)),
            thousands(median(full_rates)),
            format!("{ratio:.2}"),
        ]],
        verdict: verdict(ratio >= 0.85, "within 15 %"),
        chart: None,
    })
}

/// Runs a relay, in its own task as in a server, until the outbox is drained, and checks that every event arrived.
async fn drained(broker: &Broker, store: Arc<dyn OutboxStore>, events: u64) -> Result<Drained, Error> {
    let topic = broker.created_topic().await?;
    let drained = tokio::spawn(relayed(topic.clone(), store, events)).await??;
    // Fails unless every event has arrived.
    Watch::start(&topic)?.finish(events).await?;
    Ok(drained)
}

/// Runs a relay until the outbox is drained.
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
        reading: outbox.reading.share_of(took),
        publishing: publisher.publishing.share_of(took),
        marking: outbox.marking.share_of(took),
    })
}

/// The median of the ratios of figures from the same round.
fn ratio(these: &[f64], those: &[f64]) -> f64 {
    median(these.iter().zip(those).map(|(this, that)| this / that).collect())
}
