//! Reads a topic with a plain rdkafka consumer, to see events as another client sees them.

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

/// The time limit for the last events.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The interval at which a waiting thread checks whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// An event that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The time of the event by the database's clock, before its transaction committed: `ce_time`.
    pub(super) happened: Timestamp,
    /// The record's timestamp in whole milliseconds: the time when the relay handed the event to its producer.
    pub(super) sent: Timestamp,
    /// The time when this reader received it.
    pub(super) received: Timestamp,
}

/// A thread that reads all events of a topic.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<Result<Vec<Arrival>, Error>>,
}

impl Watch {
    /// Starts to read from the beginning of an existing topic.
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

    /// Waits until `events` different events have arrived, and returns the first arrival of each. It counts
    /// events instead of reading up to the end offsets, because Tansu reports end offsets that miss the last
    /// records.
    pub(super) async fn finish(self, events: u64) -> Result<Vec<Arrival>, Error> {
        let deadline = Instant::now() + TIMEOUT;
        while self.seen.load(Ordering::Relaxed) < events
            && Instant::now() < deadline
            && !self.thread.is_finished()
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let arrivals = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let arrivals = arrivals.map_err(|_| "the reader panicked")??;
        if arrivals.len() as u64 == events {
            Ok(arrivals)
        } else {
            Err(format!("{events} events expected, {} arrived", arrivals.len()).into())
        }
    }
}

fn read(consumer: &BaseConsumer, stop: &AtomicBool, seen: &AtomicU64) -> Result<Vec<Arrival>, Error> {
    let mut arrivals: HashMap<Vec<u8>, Arrival> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(POLL_INTERVAL) else { continue };
        let message = message?;
        let received = Timestamp::now();
        let id = header(&message, "ce_id").ok_or("an event without ce_id")?.to_vec();
        let time = header(&message, "ce_time").ok_or("an event without ce_time")?;
        let happened = std::str::from_utf8(time)?.parse()?;
        let sent = message.timestamp().to_millis().ok_or("a record without a timestamp")?;
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
        // Kafka answers a waiting fetch as soon as a record arrives. Tansu answers it later, depending on the
        // maximum wait.
        .set("fetch.wait.max.ms", "1");
    Ok(client.create()?)
}
