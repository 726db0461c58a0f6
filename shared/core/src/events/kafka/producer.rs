//! A producer that is replaced when it is broken, for everything that this product sends to a topic.
//!
//! If a broker saw the sequence of an idempotent producer end elsewhere than the producer did, it may refuse
//! everything that this producer sends, for ever. So a producer is replaced after a fatal error, and after a batch of
//! which it could send nothing. Never: two producers of one [`ReplaceableProducer`] that both still send.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer, PurgeConfig},
    types::RDKafkaErrorCode,
};

use super::{
    connect::{self, Context},
    headers,
};
use crate::{envelope::Record, events::KafkaOptions};

/// A producer, and the configuration from which it is made again.
pub(super) struct ReplaceableProducer {
    config: KafkaOptions,
    /// The time-out for the acknowledgement of a record. The record may still arrive afterwards.
    delivery_timeout: Duration,
    current: RwLock<Arc<FutureProducer<Context>>>,
}

impl ReplaceableProducer {
    /// A producer that connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(super) fn new(config: &KafkaOptions, delivery_timeout: Duration) -> Result<Self, KafkaError> {
        let current = RwLock::new(Arc::new(connected(config, delivery_timeout)?));
        Ok(Self { config: config.clone(), delivery_timeout, current })
    }

    /// The producer to use for a batch.
    pub(super) fn current(&self) -> Arc<FutureProducer<Context>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces `used` after a fatal error, or if it could send nothing of a batch.
    pub(super) fn replace_if_broken(&self, used: &Arc<FutureProducer<Context>>, sent_nothing: bool) {
        let fatal = used.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            tracing::error!(%code, reason, "the Kafka producer failed for good and is replaced");
        }
        if fatal.is_some() || sent_nothing {
            self.replace(used);
        }
    }

    /// Uses a new producer from now on, unless another caller has replaced `used` already. `used` never sends what it
    /// has not sent yet.
    pub(super) fn replace(&self, used: &Arc<FutureProducer<Context>>) {
        if let Ok(fresh) = connected(&self.config, self.delivery_timeout) {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&current, used) {
                *current = Arc::new(fresh);
            }
        }
        used.purge(PurgeConfig::default().queue().inflight());
        // Dropping a producer joins its polling thread, which must not block a thread of the runtime. Without this, the
        // caller might drop the last reference.
        let used = used.clone();
        std::thread::spawn(move || drop(used));
    }
}

/// An idempotent producer: librdkafka's own retries neither duplicate nor reorder records.
fn connected(
    config: &KafkaOptions,
    delivery_timeout: Duration,
) -> Result<FutureProducer<Context>, KafkaError> {
    connect::client(config)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", config.compression)
        .set("linger.ms", "1")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .set("message.timeout.ms", delivery_timeout.as_millis().to_string())
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
