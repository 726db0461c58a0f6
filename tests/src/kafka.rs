//! A topic that belongs to one test, read and written by a client that is not Bespeak's.

use std::{collections::HashMap, process::Command, time::Duration};

use bespeak::{
    config::{Config, Values},
    events::{EventLog, KafkaOptions},
};
use bespeak_services::Kafka;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;
use tokio::sync::OnceCell;

/// The broker that all tests of this process share.
///
/// # Panics
/// No broker is given and none can be started; the message says what to install.
pub async fn kafka_server() -> &'static Kafka {
    static BROKER: OnceCell<Kafka> = OnceCell::const_new();
    BROKER
        .get_or_init(|| async { Kafka::provide().await.unwrap_or_else(|missing| panic!("{missing}")) })
        .await
}

/// A topic with a name of its own; it exists once a program or a test creates it.
pub struct Topic {
    bootstrap: String,
    name: String,
}

/// A record as read from a topic.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The record key, as text.
    pub key: String,
    /// The record headers, as text.
    pub headers: HashMap<String, String>,
    /// The record value as JSON; null if it is not JSON.
    pub value: Value,
    /// The partition of the record.
    pub partition: i32,
}

impl Topic {
    /// A topic on the shared broker.
    pub async fn new() -> Self {
        Self::on(kafka_server().await)
    }

    /// A topic on this broker.
    pub fn on(broker: &Kafka) -> Self {
        Self { bootstrap: broker.bootstrap().to_owned(), name: format!("test.{}", crate::unique()) }
    }

    /// A topic of this name on these brokers, such as one of a mock cluster.
    pub fn named(bootstrap: &str, name: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), name: name.to_owned() }
    }

    /// The value for `BESPEAK_EVENTS_URL`.
    pub fn url(&self) -> String {
        format!("kafka://{}/{}", self.bootstrap, self.name)
    }

    /// The addresses of the brokers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The name of the topic.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The product's options for this topic, with defaults.
    pub fn config(&self) -> KafkaOptions {
        let url = self.url();
        let values = Values::collect(|asked| (asked == "BESPEAK_EVENTS_URL").then(|| url.clone()), |_| None);
        match Config::parse(&values).expect("valid settings").events {
            EventLog::Kafka(config) => *config,
            EventLog::Embedded => unreachable!("the URL names Kafka"),
        }
    }

    /// Writes a record, as any client of the broker could.
    pub async fn put(&self, key: &str, headers: &[(&str, &str)], value: Option<&[u8]>) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("message.max.bytes", "10000000")
            .create()
            .expect("a producer");
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: Some(value.as_bytes()) });
        }
        let mut record = FutureRecord::to(&self.name).key(key).headers(owned);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record, Duration::from_secs(10)).await.expect("delivered");
    }

    /// The settings of a topic, as far as the broker reports them.
    pub async fn settings(&self, topic: &str) -> HashMap<String, String> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().expect("a client");
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        let described = described.ok().and_then(|found| found.into_iter().next()?.ok());
        let entries = described.map(|resource| resource.entries).unwrap_or_default();
        entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
    }

    /// All records of the topic, each partition in order.
    pub async fn read(&self) -> Vec<Seen> {
        self.read_of(self.name.clone()).await
    }

    /// All records of the topic of dead letters.
    pub async fn dead_letters(&self) -> Vec<Seen> {
        self.read_of(format!("{}.dlq", self.name)).await
    }

    async fn read_of(&self, topic: String) -> Vec<Seen> {
        let bootstrap = self.bootstrap.clone();
        tokio::task::spawn_blocking(move || read(&bootstrap, &topic)).await.expect("no panic")
    }
}

/// The setting that a program on this topic needs besides: a consumer group of its own. Members of one group wait for
/// each other whenever one comes or goes, even if each reads a topic of its own, and so would the tests of a shared
/// broker.
pub(crate) fn group_of(events_url: &str) -> Option<(&'static str, String)> {
    let (_brokers, topic) = events_url.strip_prefix("kafka://")?.split_once('/')?;
    Some(("BESPEAK_CONSUMER_GROUP", topic.to_owned()))
}

/// Gives a command on a topic its group, unless it has one.
pub(crate) fn set_group(command: &mut Command) {
    let value_of = |name: &str| {
        let (_name, value) = command.get_envs().find(|(set, _)| *set == name)?;
        value?.to_str().map(str::to_owned)
    };
    if let Some((name, group)) = value_of("BESPEAK_EVENTS_URL").as_deref().and_then(group_of)
        && value_of(name).is_none()
    {
        command.env(name, group);
    }
}

fn read(bootstrap: &str, topic: &str) -> Vec<Seen> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions().len();
    let mut seen = Vec::new();
    for partition in 0..i32::try_from(partitions).expect("few") {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
        if low >= high {
            continue;
        }
        let mut at = TopicPartitionList::new();
        at.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an offset");
        consumer.assign(&at).expect("assigned");
        // Tansu reports an end of the partition before the last batch, so the end is where no record follows.
        let mut next = low;
        loop {
            match consumer.poll(if next < high { PATIENCE } else { Duration::from_millis(500) }) {
                Some(Ok(message)) if message.partition() == partition => {
                    next = message.offset() + 1;
                    seen.push(record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None if next >= high => break,
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => panic!("{topic}, partition {partition}: nothing after offset {next} of {high}"),
            }
        }
    }
    seen
}

fn record(message: &impl Message) -> Seen {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect());
    Seen {
        key: text(message.key()),
        headers: headers.unwrap_or_default(),
        value: serde_json::from_slice(message.payload().unwrap_or_default()).unwrap_or_default(),
        partition: message.partition(),
    }
}
