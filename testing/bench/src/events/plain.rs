//! What a relay is measured against: rdkafka's producer alone, as idempotent and acknowledged as the relay's, but with
//! nothing to read, no order to keep and nothing to note.

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

/// How long the last delivery report may take.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Sends records as fast as it can, and waits for all delivery reports; how long it took.
pub(super) async fn send(topic: &KafkaOptions, records: Vec<Record>) -> Result<Duration, Error> {
    let topic = topic.clone();
    tokio::task::spawn_blocking(move || send_all(&topic, &records)).await?
}

fn send_all(topic: &KafkaOptions, records: &[Record]) -> Result<Duration, Error> {
    // As the relay's, see `shared/src/events/kafka/publish.rs`.
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
        let mut next = of(&topic.topic, record);
        while let Err((error, again)) = producer.send(next) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
            next = again;
        }
    }
    let Reports { good, bad } = &**producer.context();
    while good.load(Ordering::Relaxed) < records.len() as u64 {
        if bad.load(Ordering::Relaxed) > 0 || started.elapsed() > PATIENCE {
            return Err("the producer could not deliver all records".into());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(started.elapsed())
}

fn of<'a>(topic: &'a str, record: &'a Record) -> BaseRecord<'a, Vec<u8>, Vec<u8>> {
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
