//! The publisher for Kafka: an idempotent producer, acknowledged by all in-sync replicas, one event per key in flight.
//!
//! Receives events and returns a result for each. A broker refuses a whole batch for one record that is too large, so
//! every refused event is sent again alone, and only an event that is refused alone counts as refused. A poison event
//! thus blocks its own key, and no other (I10).

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

/// The most keys with an event in flight: well below the capacity of librdkafka's queue.
const IN_FLIGHT_MAX: usize = 10_000;
/// The time-out for the acknowledgement of an event, in milliseconds. The event may still arrive afterwards.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// Publishes events to a topic.
pub struct KafkaPublisher {
    config: KafkaOptions,
    source: String,
    /// The current producer. A producer that failed for good is replaced.
    producer: RwLock<Arc<FutureProducer<Context>>>,
}

impl KafkaPublisher {
    /// A publisher that connects in the background.
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
        send(producer, &self.config.topic, &record(event, &self.source)).await.map_err(publish_error)
    }

    /// Sends the events of one key one after the other, until one fails. The events behind it are not sent, because a
    /// later event must not overtake the one that will be retried (I8).
    async fn send_in_order(
        &self,
        producer: &FutureProducer<Context>,
        events: Vec<(usize, &OutboxEvent)>,
    ) -> Vec<(usize, Result<(), PublishError>)> {
        let mut results = Vec::with_capacity(events.len());
        let mut broken = false;
        for (at, event) in events {
            let sent = if broken { Err(PublishError::Behind) } else { self.send(producer, event).await };
            broken |= sent.is_err();
            results.push((at, sent));
        }
        results
    }

    /// Replaces a producer after a fatal error, or after a batch of which it could send nothing: if a broker saw the
    /// sequence of an idempotent producer end elsewhere than the producer did, it may refuse everything that this
    /// producer sends.
    fn replace_if_broken(
        &self,
        producer: Arc<FutureProducer<Context>>,
        results: &[Result<(), PublishError>],
    ) {
        let fatal = producer.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            tracing::error!(%code, reason, "the Kafka producer failed for good and is replaced");
        }
        let unavailable = results.iter().any(|result| matches!(result, Err(PublishError::Unavailable(_))));
        if fatal.is_some() || (unavailable && !results.iter().any(Result::is_ok)) {
            self.replace(producer);
        }
    }

    /// Uses a new producer from now on. The old one never sends what it has not sent yet.
    fn replace(&self, producer: Arc<FutureProducer<Context>>) {
        if let Ok(fresh) = self::producer(&self.config) {
            *self.producer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
        producer.purge(PurgeConfig::default().queue().inflight());
        // Dropping a producer joins its polling thread, which must not block a thread of the runtime.
        std::thread::spawn(move || drop(producer));
    }
}

/// Events in flight. If this is dropped while `producer` is set, the caller gave up before all results were known,
/// because its process is about to be frozen or because it lost its leases. Nothing more of these events may be sent
/// then: another relay may already be publishing them, and an event that leaves later would come after newer ones of
/// its key.
struct InFlight<'a> {
    publisher: &'a KafkaPublisher,
    producer: Option<Arc<FutureProducer<Context>>>,
}

impl Drop for InFlight<'_> {
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
        let mut in_flight = InFlight { publisher: self, producer: Some(producer.clone()) };
        // Keys are independent of each other; within a key, the next event waits for the acknowledgement of the last
        // one.
        let mut chains: HashMap<&str, Vec<(usize, &OutboxEvent)>> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            chains.entry(&event.key).or_default().push((at, event));
        }
        let mut results = vec![Err(PublishError::Behind); events.len()];
        let chains: Vec<_> = chains.into_values().map(|chain| self.send_in_order(&producer, chain)).collect();
        let mut sent = stream::iter(chains).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(chain) = sent.next().await {
            for (at, result) in chain {
                results[at] = result;
            }
        }
        // A refusal may be the fault of another record in the same batch. Alone, an event is refused only for itself.
        // The events behind it stay unsent, so the order of its key is kept.
        for (event, result) in events.iter().zip(&mut results) {
            if matches!(result, Err(PublishError::Rejected(_))) {
                *result = self.send(&producer, event).await;
            }
        }
        drop(sent);
        // Every result is known, so the producer may be used again.
        in_flight.producer = None;
        self.replace_if_broken(producer, &results);
        results
    }
}

/// An idempotent producer: librdkafka's own retries neither duplicate nor reorder records.
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

/// Sends a record to a topic and waits for its acknowledgement.
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

/// Tells a refusal of the record from an outage.
fn publish_error(error: KafkaError) -> PublishError {
    let reason = error.to_string();
    if is_fault_of_record(&error) {
        PublishError::Rejected(reason)
    } else {
        PublishError::Unavailable(reason)
    }
}

/// Whether the broker refused this record, and would take another one.
pub(super) fn is_fault_of_record(error: &KafkaError) -> bool {
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
