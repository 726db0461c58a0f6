//! The rate at which a consumer applies the effects of events.

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
    backlog::{Backlog, RESERVATIONS},
    broker::{Broker, SOURCE},
    plain,
    tables::{count, migrated},
    timed::TimedInbox,
};
use crate::{
    Error,
    bench::Bench,
    mysql::Database,
    report::{Section, count_of, median, per_second, percent, verdict},
};

/// One event for each reservation: that of its commit, which issues a SmartKey.
const EVENTS: u64 = RESERVATIONS as u64;
/// The time limit of a round, which includes joining the consumer group.
const TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) async fn consume(bench: &Bench, database: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let (mut rates, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let commits = backlog.commits(database).await?;
        let records = commits.iter().map(|event| bespeak::envelope::record(event, SOURCE)).collect();
        drop(commits);
        let topic = broker.created_topic().await?;
        plain::send(&topic, records).await?;
        let (name, store) = migrated(database).await?;
        backlog.copy_resources(database, &name).await?;
        database.wait_for_flush().await?;
        let inbox = consume_all(&topic, store.clone()).await?;
        let keys = count(database, &format!("{name}.smart_keys WHERE code IS NOT NULL")).await?;
        let noted = count(database, &format!("{name}.processed_events")).await?;
        if (keys, noted) != (EVENTS, EVENTS) {
            return Err(format!("{EVENTS} events, {noted} inbox rows, {keys} SmartKeys").into());
        }
        let took = inbox.progress().took();
        rates.push(per_second(EVENTS, took));
        parts.push(inbox.applying.share_of(took));
        store.close().await;
        database.drop(&name).await?;
    }
    let rate = median(rates);
    Ok(Section {
        title: "Events: consuming, with SmartKeys",
        what: format!(
            "{} events of commits, each with its own token, for resources with the fulfilment SMART_KEY, in a \
             topic of 12 partitions. The time of one consumer is counted from its first transaction to the end of \
             its last, without joining the group. After each round the database has exactly one SmartKey and one \
             inbox row for each event.",
            thousands(count_of(EVENTS))
        ),
        header: vec!["events/s", "share of time in transactions", "SmartKeys"],
        rows: vec![vec![thousands(rate), percent(median(parts)), thousands(count_of(EVENTS))]],
        verdict: verdict(rate >= 10_000.0, "at least 10,000 events/s, each applied exactly once"),
        chart: None,
    })
}

/// Runs a consumer until it has applied all events.
async fn consume_all(topic: &KafkaOptions, store: Arc<MysqlStore>) -> Result<Arc<TimedInbox>, Error> {
    let inbox = Arc::new(TimedInbox::new(store.clone()));
    let letters = Arc::new(TopicDeadLetters::new(topic, store)?);
    let consumer = Arc::new(Consumer::new(inbox.clone(), &topic.group, letters, Arc::default()));
    let stop = CancellationToken::new();
    let member = tokio::spawn(KafkaConsumer::new(topic, consumer)?.run(stop.clone()));
    let deadline = Instant::now() + TIMEOUT;
    while inbox.progress().applied.applied < EVENTS && Instant::now() < deadline && !member.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    member.await?;
    let applied = inbox.progress().applied;
    let expected = Applied { applied: EVENTS, ..Applied::default() };
    if applied == expected {
        Ok(inbox)
    } else {
        Err(format!("expected {EVENTS} applied events, got {applied:?}").into())
    }
}
