//! Wires the event pipeline: which publisher the relay has, and who consumes.

use std::sync::Arc;
#[cfg(feature = "kafka")]
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    background::{RunReport, RunUntil},
    config::Config,
    events::{
        EventLog, KafkaOptions, Publisher,
        dead_letter::DeadLetterQueue,
        embedded::{Embedded, Letters},
        relay::{Relay, RelayOptions, Relayed},
    },
    store::Database,
};

/// How long until brokers that did not answer are asked again.
#[cfg(feature = "kafka")]
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Why the event pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The topic is not as it must be.
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Topic(#[from] crate::events::kafka::TopicError),
    /// librdkafka refuses the configuration.
    #[cfg(feature = "kafka")]
    #[error("Kafka's client cannot be made of this configuration: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    /// This build cannot log in so.
    #[cfg(all(feature = "kafka", not(feature = "msk-iam")))]
    #[error("BESPEAK_KAFKA_LOGIN=msk-iam is not in this build: build it with the feature msk-iam")]
    NoMskIam,
    /// This build has no Kafka.
    #[cfg(not(feature = "kafka"))]
    #[error(
        "BESPEAK_EVENTS_URL names Kafka, which this build does not have: build it with the feature kafka"
    )]
    NoKafka,
}

/// Where the dead letters of a configuration are.
///
/// # Errors
/// Kafka's client cannot be made.
pub fn dead_letters(
    config: &Config,
    store: &Arc<dyn Database>,
) -> Result<Arc<dyn DeadLetterQueue>, EventsError> {
    match &config.events {
        EventLog::Embedded => Ok(Arc::new(Letters::new(store.clone(), Arc::default()))),
        #[cfg(feature = "kafka")]
        EventLog::Kafka(kafka) => {
            Ok(Arc::new(crate::events::kafka::TopicDeadLetters::new(kafka, store.clone())?))
        }
        #[cfg(not(feature = "kafka"))]
        EventLog::Kafka(_) => Err(EventsError::NoKafka),
    }
}

/// Refuses a login that this build does not have.
#[cfg(all(feature = "kafka", not(feature = "msk-iam")))]
pub(super) fn can_log_in(kafka: &KafkaOptions) -> Result<(), EventsError> {
    match kafka.security.login {
        Some(crate::events::Login::MskIam { .. }) => Err(EventsError::NoMskIam),
        _ => Ok(()),
    }
}

/// The parts of the event pipeline.
pub(super) struct EventPipeline {
    pub(super) store: Arc<dyn Database>,
    pub(super) written: Arc<Notify>,
    pub(super) deliveries: Arc<Notify>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl EventPipeline {
    pub(super) fn start_embedded(self, config: &Config) {
        if config.relay {
            let publisher = Embedded::new(self.store.clone(), &config.events_source, self.deliveries.clone());
            self.tasks.spawn(self.relay(Arc::new(publisher)));
        }
    }

    fn relay(
        &self,
        publisher: Arc<dyn Publisher>,
    ) -> impl Future<Output = RunReport<Relayed>> + Send + use<> {
        let relay = Relay::new(self.store.clone(), publisher, RelayOptions::default());
        relay.run(RunUntil::Stopped, self.written.clone(), self.stop.clone())
    }

    #[cfg(feature = "kafka")]
    pub(super) async fn start_kafka(self, config: &Config, kafka: &KafkaOptions) -> Result<(), EventsError> {
        use crate::events::{
            consume::Consumer,
            kafka::{KafkaConsumer, KafkaPublisher, TopicDeadLetters, TopicError, ensure_topics},
        };

        if !(config.relay || config.consumer) {
            return Ok(());
        }
        #[cfg(not(feature = "msk-iam"))]
        can_log_in(kafka)?;
        let publisher = Arc::new(KafkaPublisher::new(kafka, &config.events_source)?);
        let letters = Arc::new(TopicDeadLetters::new(kafka, self.store.clone())?);
        let consumer = Consumer::new(self.store.clone(), &kafka.group, letters, self.deliveries.clone());
        let consumer = Arc::new(consumer);
        let there = match ensure_topics(kafka).await {
            Ok(()) => true,
            Err(error @ TopicError::Unavailable { .. }) => {
                tracing::error!(reason = %error, "no broker answers yet; events wait in the outbox until one does");
                false
            }
            Err(error) => return Err(error.into()),
        };
        let (relays, consumes, kafka) = (config.relay, config.consumer, kafka.clone());
        let tasks = self.tasks.clone();
        tasks.clone().spawn(async move {
            if !there && !self.topics_in_time(&kafka).await {
                return;
            }
            if relays {
                tasks.spawn(self.relay(publisher));
            }
            if !consumes {
                return;
            }
            match KafkaConsumer::new(&kafka, consumer) {
                Ok(member) => drop(tasks.spawn(member.run(self.stop.clone()))),
                Err(error) => {
                    tracing::error!(%error, "Kafka's consumer cannot be made of this configuration");
                }
            }
        });
        Ok(())
    }

    /// Waits until the topics are there; whether they are, or the process is to stop.
    #[cfg(feature = "kafka")]
    async fn topics_in_time(&self, kafka: &KafkaOptions) -> bool {
        use crate::events::kafka::{TopicError, ensure_topics};

        let mut said = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
            let ensured = tokio::select! {
                () = self.stop.cancelled() => return false,
                ensured = ensure_topics(kafka) => ensured,
            };
            match ensured {
                Ok(()) => {
                    tracing::info!("brokers answer; events are published from now on");
                    return true;
                }
                Err(TopicError::Unavailable { .. }) => {}
                Err(error) if !said => {
                    said = true;
                    tracing::error!(reason = %error, "events are not published until this is mended");
                }
                Err(_) => {}
            }
        }
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_async, reason = "as with Kafka")]
    pub(super) async fn start_kafka(self, _: &Config, _: &KafkaOptions) -> Result<(), EventsError> {
        Err(EventsError::NoKafka)
    }
}
