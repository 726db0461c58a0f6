//! Background tasks, in one place for every kind of process. A server starts them all and lets them run; a function,
//! which is frozen between invocations, builds the same parts and runs each of them until its time is over.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::{App, EventPipelineError, events::EventPipeline};
use crate::{
    background::{Expiry, Purger, RunUntil},
    config::Config,
    coordination::SoldOutChannel,
    delivery::{Dispatcher, DispatcherOptions, NoWebhooksClient},
    dispatch::{DispatchError, Strategy},
    events::{
        EventLog, Publisher,
        embedded::Embedded,
        relay::{Relay, RelayOptions},
    },
    store::{Backlog, DatabaseUrl, StoreError},
    supervision::Ends,
    telemetry::ExpiryPath,
};

/// Why the background tasks of a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration of events cannot work.
    #[error(transparent)]
    Events(#[from] EventPipelineError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] DispatchError),
    /// An endpoint is configured, and this build cannot deliver to it.
    #[error("BESPEAK_WEBHOOK_URL is set, but {0}")]
    Webhooks(#[from] NoWebhooksClient),
}

impl App {
    /// Starts every background task of a server: the event pipeline, the sold-out channel, the expiry timer, the
    /// purge and the webhook dispatcher. They run until [`App::stop`].
    ///
    /// If no broker answers yet, the event pipeline starts as soon as one does; until then events wait in the outbox.
    ///
    /// # Errors
    /// The configuration of events cannot work, or the endpoint of the environment cannot be stored.
    pub async fn start_background(&self, config: &Config) -> Result<(), StartError> {
        self.start_upkeep();
        self.start_events(config).await?;
        self.start_sold_out_channel(config);
        self.start_timer();
        self.start_purger();
        if config.webhooks.deliver {
            self.start_webhooks().await?;
        }
        Ok(())
    }

    /// Starts the upkeep of a database in this process, such as SQLite's checkpoints.
    pub fn start_upkeep(&self) {
        let (database, stop) = (self.database.clone(), self.supervisor.stopping());
        let upkeep = async move { database.upkeep(stop).await };
        self.supervisor.spawn("database_upkeep", Ends::AtShutdown, upkeep);
    }

    /// Starts the timer that ends holds on time.
    pub fn start_timer(&self) {
        let expiry = self.expiry();
        let run = expiry.run(RunUntil::Stopped, self.supervisor.stopping());
        self.supervisor.spawn("timer", Ends::AtShutdown, run.map(drop));
    }

    /// Starts the task that deletes records past their retention.
    pub fn start_purger(&self) {
        let mut purger = self.purger();
        purger.set_insists(false);
        let stop = self.supervisor.stopping();
        let run = async move { drop(purger.run(RunUntil::Stopped, stop).await) };
        self.supervisor.spawn("purger", Ends::AtShutdown, run);
    }

    /// Starts to share through Redis what is sold out, if a Redis is configured. Only lanes refuse from memory, and a
    /// SQLite file has only one process, so nothing is started for other strategies or for SQLite.
    pub fn start_sold_out_channel(&self, config: &Config) {
        let is_useful =
            config.strategy == Strategy::Lanes && matches!(config.database, DatabaseUrl::Mysql(_));
        if let (Some(node), true) = (&self.redis, is_useful) {
            let name = format!("{}:gate:v1", config.coordination.scope);
            let channel = SoldOutChannel::new(node.clone(), name, self.dispatch.sold_out());
            channel.start(&self.supervisor);
        }
    }

    /// Starts the event pipeline: the relay and the consumer, as far as the configuration gives them to this process.
    ///
    /// # Errors
    /// The configuration cannot work, whatever the brokers do: see [`EventPipelineError`].
    pub async fn start_events(&self, config: &Config) -> Result<(), EventPipelineError> {
        let pipeline = EventPipeline {
            store: self.database.clone(),
            written: self.dispatch.written(),
            deliveries: self.webhooks_due(),
            supervisor: self.supervisor.clone(),
        };
        match &config.events {
            EventLog::Embedded => pipeline.start_embedded(config),
            EventLog::Kafka(kafka) => pipeline.start_kafka(config, kafka).await?,
        }
        Ok(())
    }

    /// Builds the part that ends overdue holds.
    pub fn sweep(&self) -> Expiry {
        self.expiry().counted_as(ExpiryPath::Sweep)
    }

    fn expiry(&self) -> Expiry {
        Expiry::new(self.database.clone(), self.dispatch.clone()).guarded_by(self.clock_watch.clone())
    }

    /// Builds the part that deletes records past their retention.
    pub fn purger(&self) -> Purger {
        let purger = Purger::new(self.database.clone(), self.dispatch.clone(), self.retention);
        purger.guarded_by(self.clock_watch.clone())
    }

    /// Builds the part that delivers webhooks. When it stops, attempts in flight have `grace` to end.
    ///
    /// # Errors
    /// This build cannot deliver webhooks.
    pub fn dispatcher(&self, grace: Duration) -> Result<Dispatcher, NoWebhooksClient> {
        let options = DispatcherOptions { grace, ..self.webhooks.dispatcher_options() };
        Ok(Dispatcher::new(self.database.clone(), self.webhooks.sender()?, options))
    }

    /// Connects to the event log, and makes sure that its topics exist. The caller should keep the publisher, because
    /// it holds connections.
    ///
    /// # Errors
    /// No broker answers, or the configuration cannot work.
    pub async fn publisher(&self, config: &Config) -> Result<Arc<dyn Publisher>, EventPipelineError> {
        match &config.events {
            EventLog::Embedded => {
                let deliveries = self.webhooks_due();
                Ok(Arc::new(Embedded::new(self.database.clone(), &config.events_source, deliveries)))
            }
            #[cfg(feature = "kafka")]
            EventLog::Kafka(kafka) => {
                use crate::events::kafka::{KafkaPublisher, ensure_topics};

                #[cfg(not(feature = "msk-iam"))]
                super::events::can_log_in(kafka)?;
                ensure_topics(kafka).await?;
                Ok(Arc::new(KafkaPublisher::new(kafka, &config.events_source)?))
            }
            #[cfg(not(feature = "kafka"))]
            EventLog::Kafka(_) => Err(EventPipelineError::NoKafka),
        }
    }

    /// Builds the part that publishes the outbox.
    pub fn relay(&self, publisher: Arc<dyn Publisher>) -> Relay {
        Relay::new(self.database.clone(), publisher, RelayOptions::default())
    }

    /// Wakes the relay: notified after commits of this process that wrote events.
    pub fn events_written(&self) -> Arc<tokio::sync::Notify> {
        self.dispatch.written()
    }

    /// Counts the events that await publication. Cancel-safe.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.dispatch.read(self.database.backlog()).await
    }
}
