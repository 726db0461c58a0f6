//! The base that a relay is compared with: rdkafka's producer alone. It is idempotent and waits for
//! acknowledgements, like the relay's producer, but it reads no database, keeps no order between events of a
//! key and marks nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use bespeak::{envelope::Record, events::KafkaOptions};
use rdkafka::{
    ClientConfig, ClientContext,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::Error;

/// The time limit for all delivery reports.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Counts delivery reports.
#[derive(Default)]
struct Reports {
    good: AtomicU64,
    bad: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        let count = if report.is_ok() { &self.good } else { &self.bad };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends records as fast as possible, waits for all delivery reports, and returns the time that this took.
pub(super) async fn send(topic: &KafkaOptions, records: Vec<Record>) -> Result<Duration, Error> {
    let topic = topic.clone();
    tokio::task::spawn_blocking(move || send_all(&topic, &records)).await?
}

fn send_all(topic: &KafkaOptions, records: &[Record]) -> Result<Duration, Error> {
    // The settings of the relay's producer, see `shared/core/src/events/kafka/publish.rs`.
    let producer: ThreadedProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", &topic.servers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", topic.compression)
        .set("linger.ms", "1")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .set("message.timeout.ms", "60000")
        .create_with_context(Reports::default())?;
    let started = Instant::now();
    for record in records {
        let mut next = to_kafka(&topic.topic, record);
        while let Err((error, returned)) = producer.send(next) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
            next = returned;
        }
    }
    let Reports { good, bad } = &**producer.context();
    while good.load(Ordering::Relaxed) < records.len() as u64 {
        if bad.load(Ordering::Relaxed) > 0 || started.elapsed() > TIMEOUT {
            return Err("the producer could not deliver all records".into());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(started.elapsed())
}

fn to_kafka<'a>(topic: &'a str, record: &'a Record) -> BaseRecord<'a, Vec<u8>, Vec<u8>> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut to = BaseRecord::to(topic).headers(headers);
    if let Some(key) = &record.key {
        to = to.key(key);
    }
    if let Some(value) = &record.value {
        to = to.payload(value);
    }
    to
}
