//! Wires the event pipeline: the publisher of the relay, and the consumer.

use std::sync::Arc;
#[cfg(feature = "kafka")]
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::{
    background::RunUntil,
    config::Config,
    events::{
        EventLog, KafkaOptions, Publisher,
        dead_letter::DeadLetterQueue,
        embedded::{DatabaseDeadLetters, Embedded},
        relay::{Relay, RelayOptions},
    },
    store::Database,
    supervision::{Ends, Supervisor},
};

/// How long to wait between attempts to reach brokers that did not answer.
#[cfg(feature = "kafka")]
const TOPIC_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How long to wait before a consumer that its group refused for good is replaced.
#[cfg(feature = "kafka")]
const CONSUMER_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Why the event pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EventPipelineError {
    /// The topic does not have the shape that the configuration demands.
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Topic(#[from] crate::events::kafka::TopicError),
    /// librdkafka rejects the configuration.
    #[cfg(feature = "kafka")]
    #[error("the Kafka client rejects this configuration: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    /// This build does not have the configured login.
    #[cfg(all(feature = "kafka", not(feature = "msk-iam")))]
    #[error("BESPEAK_KAFKA_LOGIN=msk-iam is not in this build: build it with the feature msk-iam")]
    NoMskIam,
    /// This build does not have Kafka.
    #[cfg(not(feature = "kafka"))]
    #[error(
        "BESPEAK_EVENTS_URL names Kafka, which this build does not have: build it with the feature kafka"
    )]
    NoKafka,
}

/// Opens the dead letters of a configuration: in the database, or in Kafka's topic of dead letters.
///
/// # Errors
/// Kafka's client cannot be made from the configuration.
pub fn dead_letters(
    config: &Config,
    store: &Arc<dyn Database>,
) -> Result<Arc<dyn DeadLetterQueue>, EventPipelineError> {
    match &config.events {
        EventLog::Embedded => Ok(Arc::new(DatabaseDeadLetters::new(store.clone(), Arc::default()))),
        #[cfg(feature = "kafka")]
        EventLog::Kafka(kafka) => {
            Ok(Arc::new(crate::events::kafka::TopicDeadLetters::new(kafka, store.clone())?))
        }
        #[cfg(not(feature = "kafka"))]
        EventLog::Kafka(_) => Err(EventPipelineError::NoKafka),
    }
}

/// Rejects a login that this build does not have.
#[cfg(all(feature = "kafka", not(feature = "msk-iam")))]
pub(super) fn can_log_in(kafka: &KafkaOptions) -> Result<(), EventPipelineError> {
    match kafka.security.login {
        Some(crate::events::Login::MskIam { .. }) => Err(EventPipelineError::NoMskIam),
        _ => Ok(()),
    }
}

/// Consumes from Kafka until the process shuts down. A member that left its group is replaced.
#[cfg(feature = "kafka")]
async fn consume(
    kafka: KafkaOptions,
    consumer: Arc<crate::events::consume::Consumer>,
    supervisor: Supervisor,
) {
    let stop = supervisor.stopping();
    while !stop.is_cancelled() {
        match crate::events::kafka::KafkaConsumer::new(&kafka, consumer.clone()) {
            Ok(member) => member.run(stop.clone()).await,
            // The configuration does not get right by itself, so the process ends.
            Err(error) => return supervisor.fail("kafka_consumer", format!("cannot be created: {error}")),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(CONSUMER_RETRY_INTERVAL) => {}
        }
    }
}

/// The parts of the event pipeline.
pub(super) struct EventPipeline {
    pub(super) store: Arc<dyn Database>,
    pub(super) written: Arc<Notify>,
    pub(super) deliveries: Arc<Notify>,
    pub(super) supervisor: Supervisor,
}

impl EventPipeline {
    pub(super) fn start_embedded(self, config: &Config) {
        if config.relay {
            let publisher = Embedded::new(self.store.clone(), &config.events_source, self.deliveries.clone());
            self.start_relay(Arc::new(publisher));
        }
    }

    fn start_relay(&self, publisher: Arc<dyn Publisher>) {
        let relay = Relay::new(self.store.clone(), publisher, RelayOptions::default());
        let run = relay.run(RunUntil::Stopped, self.written.clone(), self.supervisor.stopping());
        self.supervisor.spawn("relay", Ends::AtShutdown, run.map(drop));
    }

    #[cfg(feature = "kafka")]
    pub(super) async fn start_kafka(
        self,
        config: &Config,
        kafka: &KafkaOptions,
    ) -> Result<(), EventPipelineError> {
        use crate::events::{
            consume::Consumer,
            kafka::{KafkaPublisher, TopicDeadLetters, TopicError, ensure_topics},
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
        let topics_exist = match ensure_topics(kafka).await {
            Ok(()) => true,
            Err(error @ TopicError::Unavailable { .. }) => {
                tracing::error!(reason = %error, "no broker answers; events wait in the outbox until one does");
                false
            }
            Err(error) => return Err(error.into()),
        };
        let (relays, consumes, kafka) = (config.relay, config.consumer, kafka.clone());
        let supervisor = self.supervisor.clone();
        supervisor.clone().spawn("events_start", Ends::AtShutdown, async move {
            if !topics_exist && !self.wait_for_topics(&kafka).await {
                return;
            }
            if relays {
                self.start_relay(publisher);
            }
            if consumes {
                let run = consume(kafka, consumer, supervisor.clone());
                supervisor.spawn("kafka_consumer", Ends::AtShutdown, run);
            }
            supervisor.stopping().cancelled().await;
        });
        Ok(())
    }

    /// Waits until the topics exist. Returns whether they do; `false` means that the process is shutting down.
    #[cfg(feature = "kafka")]
    async fn wait_for_topics(&self, kafka: &KafkaOptions) -> bool {
        use crate::events::kafka::{TopicError, ensure_topics};

        let mut logged = false;
        let stop = self.supervisor.stopping();
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(TOPIC_RETRY_INTERVAL) => {}
            }
            let ensured = tokio::select! {
                () = stop.cancelled() => return false,
                ensured = ensure_topics(kafka) => ensured,
            };
            match ensured {
                Ok(()) => {
                    tracing::info!("brokers answer; events are published from now on");
                    return true;
                }
                Err(TopicError::Unavailable { .. }) => {}
                Err(error) if !logged => {
                    logged = true;
                    tracing::error!(reason = %error, "events are not published until this is fixed");
                }
                Err(_) => {}
            }
        }
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_async, reason = "as with Kafka")]
    pub(super) async fn start_kafka(self, _: &Config, _: &KafkaOptions) -> Result<(), EventPipelineError> {
        Err(EventPipelineError::NoKafka)
    }
}
