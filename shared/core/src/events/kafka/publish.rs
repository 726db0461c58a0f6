//! The relay's way into a topic: idempotent, acknowledged by all in-sync replicas, one event of a key in flight.
//!
//! A broker refuses a whole batch for one record that is too large. So what was refused is sent again alone, and only what is
//! refused then counts as refused: a poison event blocks its own key, never its neighbours' (I10).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer, PurgeConfig},
    types::RDKafkaErrorCode,
};

use super::{
    connect::{self, Context},
    headers,
};
use crate::{
    envelope::{OutboxEvent, Record, record},
    events::{KafkaOptions, PublishError, Publisher},
};

/// Keys with an event in flight, at the most: well below what librdkafka's queue takes.
const IN_FLIGHT_MAX: usize = 10_000;
/// How long an event may take to be acknowledged, in milliseconds; then it counts as not sent, though it may arrive.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// A way into a topic.
pub struct KafkaPublisher {
    config: KafkaOptions,
    source: String,
    /// One that failed for good is replaced.
    producer: RwLock<Arc<FutureProducer<Context>>>,
}

impl KafkaPublisher {
    /// Connects when there is something to publish.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &KafkaOptions, source: &str) -> Result<Self, KafkaError> {
        let producer = RwLock::new(Arc::new(producer(config)?));
        Ok(Self { config: config.clone(), source: source.to_owned(), producer })
    }

    fn producer(&self) -> Arc<FutureProducer<Context>> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn send(
        &self,
        producer: &FutureProducer<Context>,
        event: &OutboxEvent,
    ) -> Result<(), PublishError> {
        send(producer, &self.config.topic, &record(event, &self.source)).await.map_err(failed)
    }

    /// Sends the events of one key one after the other, until one fails.
    async fn chain(
        &self,
        producer: &FutureProducer<Context>,
        events: Vec<(usize, &OutboxEvent)>,
    ) -> Vec<(usize, Result<(), PublishError>)> {
        let mut became = Vec::with_capacity(events.len());
        let mut broken = false;
        for (at, event) in events {
            let sent = if broken { Err(PublishError::Behind) } else { self.send(producer, event).await };
            broken |= sent.is_err();
            became.push((at, sent));
        }
        became
    }

    /// A producer that met an error that it cannot recover from, or that could send nothing, is replaced: an idempotent
    /// one that broke off in the middle may be refused ever after by a broker that has seen another end of it.
    fn replace_if_broken(&self, producer: Arc<FutureProducer<Context>>, became: &[Result<(), PublishError>]) {
        let fatal = producer.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            tracing::error!(%code, reason, "the Kafka producer failed for good and is replaced");
        }
        let away = became.iter().any(|became| matches!(became, Err(PublishError::Unavailable(_))));
        if fatal.is_some() || (away && !became.iter().any(Result::is_ok)) {
            self.replace(producer);
        }
    }

    /// Takes another producer from now on. What this one had not sent yet, it never sends.
    fn replace(&self, producer: Arc<FutureProducer<Context>>) {
        if let Ok(fresh) = self::producer(&self.config) {
            *self.producer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
        producer.purge(PurgeConfig::default().queue().inflight());
        // Its end waits for its thread.
        std::thread::spawn(move || drop(producer));
    }
}

/// Events under way. Dropped before all of them are reported on, nothing of them is sent any more: whoever gave up waiting
/// may be about to freeze, or may have lost its leases.
struct UnderWay<'a> {
    publisher: &'a KafkaPublisher,
    producer: Option<Arc<FutureProducer<Context>>>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.publisher.replace(producer);
        }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let producer = self.producer();
        let mut under_way = UnderWay { publisher: self, producer: Some(producer.clone()) };
        let mut chains: HashMap<&str, Vec<(usize, &OutboxEvent)>> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            chains.entry(&event.key).or_default().push((at, event));
        }
        let mut became = vec![Err(PublishError::Behind); events.len()];
        let chains: Vec<_> = chains.into_values().map(|chain| self.chain(&producer, chain)).collect();
        let mut sent = stream::iter(chains).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(chain) = sent.next().await {
            for (at, result) in chain {
                became[at] = result;
            }
        }
        for (event, became) in events.iter().zip(&mut became) {
            if matches!(became, Err(PublishError::Rejected(_))) {
                *became = self.send(&producer, event).await;
            }
        }
        drop(sent);
        under_way.producer = None;
        self.replace_if_broken(producer, &became);
        became
    }
}

pub(super) fn producer(config: &KafkaOptions) -> Result<FutureProducer<Context>, KafkaError> {
    connect::client(config)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", config.compression)
        .set("linger.ms", "1")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
        .create_with_context(Context::new(config))
}

/// Sends a record to a topic, and waits until it is acknowledged.
pub(super) async fn send(
    producer: &FutureProducer<Context>,
    topic: &str,
    record: &Record,
) -> Result<(), KafkaError> {
    let pairs = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let mut to = FutureRecord::to(topic).headers(headers(pairs));
    if let Some(key) = &record.key {
        to = to.key(key);
    }
    if let Some(value) = &record.value {
        to = to.payload(value);
    }
    producer.send(to, Duration::from_secs(5)).await.map(drop).map_err(|(error, _)| error)
}

/// Whose fault it is: the record's, or that of the way.
fn failed(error: KafkaError) -> PublishError {
    let reason = error.to_string();
    if is_of_record(&error) { PublishError::Rejected(reason) } else { PublishError::Unavailable(reason) }
}

/// Whether another record would fare better.
pub(super) fn is_of_record(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::PolicyViolation
        )
    )
}
