//! How fast a consumer gives events their effects.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::{
    events::{
        KafkaOptions,
        consume::Consumer,
        kafka::{KafkaConsumer, TopicDeadLetters},
    },
    store::{Applied, Store, mysql::MysqlStore},
};
use bespeak_lab::load::thousands;
use tokio_util::sync::CancellationToken;

use super::{
    Backlog, Broker, SOURCE,
    backlog::RESERVATIONS,
    count,
    drain::{count_of, per_second, percent},
    migrated, plain,
    timed::TimedInbox,
};
use crate::{
    Error,
    cases::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// One event of each reservation: that of its commit, which issues a SmartKey.
const EVENTS: u64 = RESERVATIONS as u64;
/// How long the consumer may take, joining its group included.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn consume(bench: &Bench, database: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let (mut rates, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let commits = backlog.commits(database).await?;
        let records = commits.iter().map(|event| bespeak::envelope::record(event, SOURCE)).collect();
        drop(commits);
        let topic = broker.topic_made().await?;
        plain::send(&topic, records).await?;
        let (name, store) = migrated(database).await?;
        backlog.copy_resources(database, &name).await?;
        database.settle().await?;
        let inbox = consumed(&topic, store.clone()).await?;
        let keys = count(database, &format!("{name}.smart_keys WHERE code IS NOT NULL")).await?;
        let noted = count(database, &format!("{name}.processed_events")).await?;
        if (keys, noted) != (EVENTS, EVENTS) {
            return Err(format!("{EVENTS} events, {noted} noted as applied, {keys} keys").into());
        }
        let took = inbox.progress().took();
        rates.push(per_second(EVENTS, took));
        parts.push(inbox.applying.part_of(took));
        store.close().await;
        database.drop(&name).await?;
    }
    let rate = median(rates);
    Ok(Section {
        title: "Events: consuming, with SmartKeys",
        what: format!(
            "{} events of commits, each of another token and of something that a SmartKey opens, in a topic of 12 \
             partitions; one consumer, from its first transaction to the end of its last (joining the group is not counted). \
             After each round the database has a SmartKey and an inbox row for each event, and no other.",
            thousands(count_of(EVENTS))
        ),
        header: vec!["events/s", "of its time, in transactions", "SmartKeys"],
        rows: vec![vec![thousands(rate), percent(median(parts)), thousands(count_of(EVENTS))]],
        verdict: verdict(rate >= 10_000.0, "at least 10,000 events/s, each with its effect once"),
        chart: None,
    })
}

/// Runs a consumer until it has applied all events.
async fn consumed(topic: &KafkaOptions, store: Arc<MysqlStore>) -> Result<Arc<TimedInbox>, Error> {
    let inbox = Arc::new(TimedInbox::new(store.clone()));
    let letters = Arc::new(TopicDeadLetters::new(topic, store)?);
    let consumer = Arc::new(Consumer::new(inbox.clone(), &topic.group, letters, Arc::default()));
    let stop = CancellationToken::new();
    let member = tokio::spawn(KafkaConsumer::new(topic, consumer)?.run(stop.clone()));
    let deadline = Instant::now() + PATIENCE;
    while inbox.progress().applied.applied < EVENTS && Instant::now() < deadline && !member.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    member.await?;
    let applied = inbox.progress().applied;
    let expected = Applied { applied: EVENTS, ..Applied::default() };
    if applied == expected { Ok(inbox) } else { Err(format!("{EVENTS} events became {applied:?}").into()) }
}
