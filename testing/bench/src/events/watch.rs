//! A look at a topic from outside, by a client that is not Bespeak's.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bespeak::{engine::Timestamp, events::KafkaOptions};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers},
};

use crate::Error;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a thread that waits looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// An event that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// When it happened, by the database's clock, before its transaction committed: `ce_time`.
    pub(super) happened: Timestamp,
    /// When the relay gave it to its producer: the record's time, in whole milliseconds.
    pub(super) sent: Timestamp,
    /// When it was here.
    pub(super) received: Timestamp,
}

/// A thread that reads all that comes into a topic.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<Result<Vec<Arrival>, Error>>,
}

impl Watch {
    /// Reads from the beginning of a topic, which is there.
    pub(super) fn start(topic: &KafkaOptions) -> Result<Self, Error> {
        let consumer = reader(topic)?;
        let mut all = TopicPartitionList::new();
        for partition in 0..topic.partitions {
            all.add_partition_offset(&topic.topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), seen.clone());
        let thread = thread::spawn(move || read(&consumer, &stopped, &counted));
        Ok(Self { stop, seen, thread })
    }

    /// Waits until so many different events have come, and returns their first arrivals. It reads them all: the end of a
    /// partition is not asked for, because Tansu names one that is short of its last records.
    pub(super) async fn finish(self, events: u64) -> Result<Vec<Arrival>, Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.load(Ordering::Relaxed) < events
            && Instant::now() < deadline
            && !self.thread.is_finished()
        {
            tokio::time::sleep(LOOK).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let arrivals = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let arrivals = arrivals.map_err(|_| "the reader panicked")??;
        if arrivals.len() as u64 == events {
            Ok(arrivals)
        } else {
            Err(format!("{events} events happened, {} came", arrivals.len()).into())
        }
    }
}

fn read(consumer: &BaseConsumer, stop: &AtomicBool, seen: &AtomicU64) -> Result<Vec<Arrival>, Error> {
    let mut arrivals: HashMap<Vec<u8>, Arrival> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(LOOK) else { continue };
        let message = message?;
        let received = Timestamp::now();
        let id = header(&message, "ce_id").ok_or("an event without id")?.to_vec();
        let time = header(&message, "ce_time").ok_or("an event without time")?;
        let happened = std::str::from_utf8(time)?.parse()?;
        let sent = message.timestamp().to_millis().ok_or("a record without time")?;
        let sent = Timestamp::from_millisecond(sent)?;
        arrivals.entry(id).or_insert(Arrival { happened, sent, received });
        seen.store(arrivals.len() as u64, Ordering::Relaxed);
    }
    Ok(arrivals.into_values().collect())
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a [u8]> {
    message.headers()?.iter().find(|header| header.key == name)?.value
}

fn reader(topic: &KafkaOptions) -> Result<BaseConsumer, Error> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &topic.servers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        // Tansu does not answer a waiting fetch when a record comes, but later, the longer it may wait; Kafka does.
        .set("fetch.wait.max.ms", "1");
    Ok(client.create()?)
}
