//! What a process does that has no background tasks: a function that is invoked by a schedule takes these parts, runs them
//! until its time is over, and leaves nothing running.

use std::{sync::Arc, time::Duration};

use super::{App, EventsError};
use crate::{
    config::{Config, EventLog},
    events::{
        Publisher,
        embedded::Embedded,
        relay::{Relay, RelayOptions},
    },
    expiry::Expiry,
    lanes::DispatchError,
    retention::Purger,
    store::Backlog,
    telemetry::ExpiryPath,
    webhooks::{Dispatcher, DispatcherOptions},
};

impl App {
    /// What ends overdue holds.
    pub fn sweep(&self) -> Expiry {
        Expiry::new(self.database.clone(), self.dispatch.clone()).counted_as(ExpiryPath::Sweep)
    }

    /// What forgets what is old.
    pub fn purger(&self) -> Purger {
        Purger::new(self.database.clone(), self.dispatch.clone(), self.retention)
    }

    /// What delivers webhooks; attempts under way have `grace` to end when it is told to stop.
    pub fn dispatcher(&self, grace: Duration) -> Dispatcher {
        let options = DispatcherOptions { grace, ..DispatcherOptions::default() };
        Dispatcher::new(self.database.clone(), self.webhooks.sender(), options)
    }

    /// The way into the event log, whose topics are there when this returns. To be kept: it holds connections.
    ///
    /// # Errors
    /// No broker answers, or the configuration cannot be right.
    pub async fn publisher(&self, config: &Config) -> Result<Arc<dyn Publisher>, EventsError> {
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
            EventLog::Kafka(_) => Err(EventsError::NoKafka),
        }
    }

    /// What publishes the outbox.
    pub fn relay(&self, publisher: Arc<dyn Publisher>) -> Relay {
        Relay::new(self.database.clone(), publisher, RelayOptions::default())
    }

    /// What wakes the relay: commits of this process that wrote events.
    pub fn events_written(&self) -> Arc<tokio::sync::Notify> {
        self.dispatch.written()
    }

    /// How much awaits publication. Cancel-safe.
    pub async fn backlog(&self) -> Result<Backlog, DispatchError> {
        self.dispatch.read(self.database.backlog()).await
    }
}
