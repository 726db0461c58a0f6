//! The publisher for Kafka: an idempotent producer, acknowledged by all in-sync replicas, one event per key in flight.
//!
//! Receives events and returns a result for each. A broker refuses a whole batch for one record that is too large, so
//! every refused event is sent again alone, and only an event that is refused alone counts as refused. A poison event
//! thus blocks its own key, and no other (I10). A partition that does not acknowledge is held back, so that the others
//! continue at full speed (`partitions.rs`).

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rdkafka::{error::KafkaError, producer::FutureProducer};

use super::{
    connect::Context,
    partitions::Partitions,
    producer::{ReplaceableProducer, is_fault_of_record, send},
};
use crate::{
    envelope::{OutboxEvent, record},
    events::{KafkaOptions, PublishError, Publisher},
};

/// The most keys with an event in flight: well below the capacity of librdkafka's queue.
const IN_FLIGHT_MAX: usize = 10_000;
/// The time-out for the acknowledgement of an event.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out for the event that tries a partition which is away: all others of the step wait for it.
const TRIAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Publishes events to a topic.
pub struct KafkaPublisher {
    config: KafkaOptions,
    source: String,
    producer: ReplaceableProducer,
    /// For events that try a partition which is away. Connects when the first partition is; `None` if that fails.
    trials: OnceLock<Option<ReplaceableProducer>>,
    partitions: Partitions,
}

/// The results of a chain: the position of each event, and what became of it.
type ChainResults = Vec<(usize, Result<(), PublishError>)>;

impl KafkaPublisher {
    /// A publisher that connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &KafkaOptions, source: &str) -> Result<Self, KafkaError> {
        Ok(Self {
            config: config.clone(),
            source: source.to_owned(),
            producer: ReplaceableProducer::new(config, DELIVERY_TIMEOUT)?,
            trials: OnceLock::new(),
            partitions: Partitions::new(config.partitions),
        })
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
    ) -> ChainResults {
        let mut results = Vec::with_capacity(events.len());
        let mut broken = false;
        let mut trial = events.first().is_some_and(|(_, event)| self.partitions.is_away(&event.key));
        for (at, event) in events {
            let sent = if broken {
                Err(PublishError::Behind)
            } else if trial {
                self.try_partition(event).await
            } else {
                self.send(producer, event).await
            };
            if sent.is_ok() {
                self.partitions.acknowledged(&event.key);
                trial = false;
            }
            broken |= sent.is_err();
            results.push((at, sent));
        }
        results
    }

    /// Sends an event to a partition that is away, if its key is the one to try, with a short time-out.
    async fn try_partition(&self, event: &OutboxEvent) -> Result<(), PublishError> {
        let away = || PublishError::PartUnavailable("its partition does not acknowledge events".to_owned());
        let connect = || ReplaceableProducer::new(&self.config, TRIAL_TIMEOUT).ok();
        match self.trials.get_or_init(connect) {
            Some(trials) if self.partitions.admits(&event.key) => {
                let mut in_flight = InFlight { of: trials, producer: Some(trials.current()) };
                let sent = self.send(&trials.current(), event).await;
                if let Some(producer) = in_flight.producer.take() {
                    trials.replace_if_broken(&producer, sent.is_err());
                }
                sent
            }
            _ => Err(away()),
        }
    }

    /// Notes which partitions did not acknowledge while others did. If none did, the log as a whole is unavailable,
    /// and that is no partition's fault.
    fn note_partitions(&self, events: &[OutboxEvent], results: &mut [Result<(), PublishError>]) {
        let any_sent = results.iter().any(Result::is_ok);
        let mut outage = false;
        for (event, result) in events.iter().zip(&mut *results) {
            let Err(PublishError::Unavailable(reason)) = result else { continue };
            if any_sent || self.partitions.is_away(&event.key) {
                self.partitions.timed_out(&event.key, reason);
                *result = Err(PublishError::PartUnavailable(std::mem::take(reason)));
            } else {
                outage = true;
            }
        }
        if outage {
            self.partitions.forget();
        }
    }
}

/// Events in flight. If this is dropped while `producer` is set, the caller gave up before all results were known,
/// because its process is about to be frozen or because it lost its leases. Nothing more of these events may be sent
/// then: another relay may already be publishing them, and an event that leaves later would come after newer ones of
/// its key.
struct InFlight<'a> {
    of: &'a ReplaceableProducer,
    producer: Option<Arc<FutureProducer<Context>>>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.of.replace(&producer);
        }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let producer = self.producer.current();
        let mut in_flight = InFlight { of: &self.producer, producer: Some(producer.clone()) };
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
        self.note_partitions(events, &mut results);
        let unavailable = results.iter().any(|result| matches!(result, Err(PublishError::Unavailable(_))));
        let sent_nothing = unavailable && !results.iter().any(Result::is_ok);
        self.producer.replace_if_broken(&producer, sent_nothing);
        results
    }

    fn admits(&self, key: &str) -> bool {
        self.partitions.admits(key)
    }
}

/// Distinguishes a refusal of the record from an outage.
fn publish_error(error: KafkaError) -> PublishError {
    let reason = error.to_string();
    if is_fault_of_record(&error) {
        PublishError::Rejected(reason)
    } else {
        PublishError::Unavailable(reason)
    }
}
