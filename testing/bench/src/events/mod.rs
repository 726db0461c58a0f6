//! What is measured on the way of events: from the outbox through a relay into a broker, and from there to effects.
//!
//! The database is one on the MySQL server of the other cases; the broker is a case's own. Both share the machine's cores
//! with what is measured. Next: `backlog.rs` for the events, `timed.rs` for where the time goes.

mod backlog;
mod consume;
mod cost;
mod drain;
mod latency;
mod plain;
mod timed;
mod watch;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bespeak::{
    config::{Config, Values},
    events::{EventLog, KafkaOptions, kafka::ensure_topics},
    store::{
        Store,
        mysql::{MysqlOptions, MysqlStore},
    },
};
use bespeak_services::Kafka;

use crate::{Error, cases::Bench, mysql::Database};

pub(crate) use backlog::Backlog;
pub(crate) use consume::consume;
pub(crate) use cost::cost;
pub(crate) use drain::{drain, purge};
pub(crate) use latency::latency;

/// What the events of the measurements say they come from.
pub(crate) const SOURCE: &str = "/bespeak";

/// The broker of a case.
pub(crate) struct Broker {
    kafka: Kafka,
}

impl Broker {
    pub(crate) async fn start(bench: &Bench) -> Result<Self, Error> {
        let kafka = Kafka::start_own().await?;
        // All cases have the same.
        let _ = bench.broker.set(format!("{}, on loopback, a fresh one for each case", kafka.describe()));
        Ok(Self { kafka })
    }

    /// A topic that nobody else uses, as the settings' defaults have it; it is there once somebody makes it.
    pub(crate) fn topic(&self) -> Result<KafkaOptions, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench.{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/{name}", self.kafka.url());
        let setting = |asked: &str| match asked {
            "BESPEAK_EVENTS_URL" => Some(url.clone()),
            "BESPEAK_CONSUMER_GROUP" => Some(name.clone()),
            _ => None,
        };
        match Config::parse(&Values::collect(setting, |_| None))?.events {
            EventLog::Kafka(config) => Ok(*config),
            EventLog::Embedded => Err("the URL names Kafka".into()),
        }
    }

    /// The same, made.
    async fn topic_made(&self) -> Result<KafkaOptions, Error> {
        let topic = self.topic()?;
        ensure_topics(&topic).await?;
        Ok(topic)
    }
}

/// What `BESPEAK_EVENTS_URL` names a topic by.
pub(crate) fn url(topic: &KafkaOptions) -> String {
    format!("kafka://{}/{}", topic.servers, topic.topic)
}

/// A database that is empty but for its tables, and its name.
pub(crate) async fn migrated(database: &Database) -> Result<(String, Arc<MysqlStore>), Error> {
    let name = database.fresh().await?;
    let store = Arc::new(MysqlStore::new(&database.url(&name, None)?, MysqlOptions::default())?);
    store.migrate().await?;
    Ok((name, store))
}

/// How many rows a query over a database counts.
async fn count(database: &Database, rows: &str) -> Result<u64, Error> {
    Ok(database.status(&format!("SELECT CAST(COUNT(*) AS CHAR) FROM {rows}")).await?.parse()?)
}
