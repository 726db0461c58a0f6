//! The broker of a case, with topics as the settings' defaults configure them.

use std::sync::atomic::{AtomicU32, Ordering};

use bespeak::{
    config::{Config, Values},
    events::{EventLog, KafkaOptions, kafka::ensure_topics},
};
use bespeak_services::Kafka;

use crate::{Error, bench::Bench};

/// The CloudEvents source of the measured events.
pub(crate) const SOURCE: &str = "/bespeak";

/// The broker of a case.
pub(crate) struct Broker {
    kafka: Kafka,
}

impl Broker {
    /// Starts a broker and notes its description for the report.
    pub(crate) async fn start(bench: &Bench) -> Result<Self, Error> {
        let kafka = Kafka::start_own().await?;
        // Setting it again fails, and all cases have the same broker software.
        let _ = bench.broker.set(format!("{}, on loopback, a new broker for each case", kafka.describe()));
        Ok(Self { kafka })
    }

    /// A new topic name with the default settings. The topic does not exist until it is created.
    pub(crate) fn topic(&self) -> Result<KafkaOptions, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let topic = format!("bench.{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/{topic}", self.kafka.url());
        let setting = |name: &str| match name {
            "BESPEAK_EVENTS_URL" => Some(url.clone()),
            "BESPEAK_CONSUMER_GROUP" => Some(topic.clone()),
            _ => None,
        };
        match Config::parse(&Values::collect(setting, |_| None))?.events {
            EventLog::Kafka(config) => Ok(*config),
            EventLog::Embedded => Err("the URL names Kafka".into()),
        }
    }

    /// As [`Broker::topic`], and creates the topic.
    pub(super) async fn created_topic(&self) -> Result<KafkaOptions, Error> {
        let topic = self.topic()?;
        ensure_topics(&topic).await?;
        Ok(topic)
    }
}

/// The value of `BESPEAK_EVENTS_URL` for a topic.
pub(crate) fn url(topic: &KafkaOptions) -> String {
    format!("kafka://{}/{}", topic.servers, topic.topic)
}
