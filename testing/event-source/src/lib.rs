//! An event source mapping for Kafka as Lambda documents it: it collects batches within a window, retries a whole
//! batch, bisects it, accepts partial answers, and sends records that failed too often to a destination.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html>. Never: knowledge of what the
//! function does; only records, answers and failures. Next: `main.rs`, which runs it against `cargo lambda watch`.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a tool for tests and for one machine: it ends if it cannot set itself up"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak::envelope::Record;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::Headers as _,
};
use serde_json::{Value, json};

/// How a function is invoked.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Invokes the function with an event and returns its answer.
    ///
    /// # Errors
    /// The function failed; the text is its own error.
    async fn invoke(&self, event: Value) -> Result<Value, String>;
}

/// The settings of an event source mapping: how batches are formed and retried.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// The largest number of records in a batch.
    pub batch: usize,
    /// How long the mapping waits for a batch to become full.
    pub window: Duration,
    /// The number of retries after which a batch goes to the destination; `None` retries for ever.
    pub retries_max: Option<u32>,
    /// Whether a failed batch is split in two halves.
    pub bisect: bool,
    /// The wait before each retry.
    pub back_off: Duration,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            batch: 100,
            window: Duration::from_millis(200),
            retries_max: None,
            bisect: true,
            back_off: Duration::from_millis(200),
        }
    }
}

/// The outcome of one delivery: counts, and the records that failed.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// How many times the function was invoked.
    pub invocations: u32,
    /// How many of these invocations failed.
    pub failures: u32,
    /// How many records were read; all of them are applied or in `on_failure`.
    pub records: usize,
    /// The records that failed more often than `retries_max` allows.
    pub on_failure: Vec<Record>,
}

/// A topic and the position up to which it was read. A record that was not finished when this was dropped is read
/// again.
pub struct EventSource {
    consumer: BaseConsumer,
    topic: String,
    mapping: Mapping,
}

struct Batch {
    records: Vec<Record>,
    attempts: u32,
}

impl EventSource {
    /// Reads the topic from the offsets that `group` committed, or from its beginning.
    ///
    /// # Panics
    /// No broker answers, or there is no such topic.
    pub async fn start(bootstrap: &str, topic: &str, group: &str, mapping: Mapping) -> Self {
        let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &bootstrap)
                .set("group.id", &group)
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .create()
                .expect("a consumer");
            let patience = Duration::from_secs(20);
            let metadata = consumer.fetch_metadata(Some(&topic), patience).expect("metadata");
            let partitions = metadata.topics()[0].partitions().len();
            let mut all = TopicPartitionList::new();
            for partition in 0..i32::try_from(partitions).expect("few") {
                all.add_partition(&topic, partition);
            }
            // All partitions are assigned by hand, because there is only one event source in the group.
            let kept = consumer.committed_offsets(all, patience).expect("offsets");
            let mut from = TopicPartitionList::new();
            for place in kept.elements() {
                let offset = match place.offset() {
                    Offset::Offset(offset) => Offset::Offset(offset),
                    _ => Offset::Beginning,
                };
                from.add_partition_offset(&topic, place.partition(), offset).expect("an offset");
            }
            consumer.assign(&from).expect("assigned");
            (consumer, topic)
        });
        let (consumer, topic) = opened.await.expect("no panic");
        Self { consumer, topic, mapping }
    }

    /// Reads a batch within its window and delivers it until no record is left. If no record came, nothing is invoked.
    pub async fn deliver(&mut self, function: &dyn Invoke) -> Delivered {
        let records = tokio::task::block_in_place(|| self.poll());
        let mut delivered = Delivered { records: records.len(), ..Delivered::default() };
        let mut offsets = TopicPartitionList::new();
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for record in &records {
            ends.insert(record.origin.partition, record.origin.offset + 1);
        }
        for (partition, end) in ends {
            offsets.add_partition_offset(&self.topic, partition, Offset::Offset(end)).expect("an offset");
        }
        let mut batches = vec![Batch { records, attempts: 0 }];
        while let Some(batch) = batches.pop() {
            if batch.records.is_empty() {
                continue;
            }
            delivered.invocations += 1;
            match function.invoke(event(&batch.records)).await {
                Ok(answer) => {
                    let left = left_of(&batch.records, &answer);
                    let attempts = if left.len() < batch.records.len() { 0 } else { batch.attempts + 1 };
                    self.retry_later(Batch { records: left, attempts }, &mut batches, &mut delivered).await;
                }
                Err(_said) => {
                    delivered.failures += 1;
                    let attempts = batch.attempts + 1;
                    self.retry_later(Batch { attempts, ..batch }, &mut batches, &mut delivered).await;
                }
            }
        }
        if offsets.count() > 0 {
            self.consumer.commit(&offsets, CommitMode::Sync).expect("committed");
        }
        delivered
    }

    /// Queues the rest of a batch for a retry, in halves if it failed, or adds it to `on_failure`.
    async fn retry_later(&self, batch: Batch, batches: &mut Vec<Batch>, delivered: &mut Delivered) {
        let Batch { mut records, attempts } = batch;
        if attempts == 0 {
            batches.push(Batch { records, attempts });
            return;
        }
        if self.mapping.retries_max.is_some_and(|max| attempts > max) {
            delivered.on_failure.append(&mut records);
            return;
        }
        tokio::time::sleep(self.mapping.back_off).await;
        if self.mapping.bisect && records.len() > 1 {
            let right = records.split_off(records.len() / 2);
            batches.push(Batch { records: right, attempts });
        }
        batches.push(Batch { records, attempts });
    }

    fn poll(&self) -> Vec<Record> {
        let end = Instant::now() + self.mapping.window;
        let mut records = Vec::new();
        while records.len() < self.mapping.batch {
            let Some(polled) = self.consumer.poll(end.saturating_duration_since(Instant::now())) else {
                break;
            };
            // An error is transient: the broker comes back, and the client reconnects.
            let Ok(message) = polled else { continue };
            let message = message.detach();
            let headers = message.headers().map(|headers| {
                let pairs = headers.iter();
                pairs
                    .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                    .collect()
            });
            records.push(Record {
                key: message.key().map(<[u8]>::to_vec),
                headers: headers.unwrap_or_default(),
                value: message.payload().map(<[u8]>::to_vec),
                origin: bespeak::envelope::Origin {
                    topic: message.topic().into(),
                    partition: message.partition(),
                    offset: message.offset(),
                },
            });
        }
        records
    }
}

/// The event that Lambda makes of a batch from a self-managed cluster.
pub fn event(records: &[Record]) -> Value {
    let mut partitions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records {
        let partition = format!("{}-{}", record.origin.topic, record.origin.partition);
        partitions.entry(partition).or_default().push(record_event(record));
    }
    json!({"eventSource": "SelfManagedKafka", "bootstrapServers": "kafka:9092", "records": partitions})
}

/// A record as it appears in an event.
pub fn record_event(record: &Record) -> Value {
    let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    let headers = record.headers.iter().map(|(name, value)| json!({name: value}));
    json!({
        "topic": &*record.origin.topic, "partition": record.origin.partition, "offset": record.origin.offset,
        "timestamp": 1_795_341_605_000_u64, "timestampType": "CREATE_TIME",
        "key": encoded(&record.key), "value": encoded(&record.value), "headers": headers.collect::<Vec<_>>(),
    })
}

/// The records that an answer asks to retry: of each partition that it names, the named record and all after it.
///
/// # Panics
/// The answer names a record that is not in the batch, which Lambda treats as a failure of the function.
pub fn left_of(records: &[Record], answer: &Value) -> Vec<Record> {
    let mut from: BTreeMap<String, i64> = BTreeMap::new();
    for failure in answer["batchItemFailures"].as_array().expect("a list of failures") {
        let item = &failure["itemIdentifier"];
        let partition = item["partition"].as_str().expect("a partition").to_owned();
        let offset = item["offset"].as_i64().expect("an offset");
        let place = |record: &Record| {
            (format!("{}-{}", record.origin.topic, record.origin.partition), record.origin.offset)
        };
        assert!(
            records.iter().any(|record| place(record) == (partition.clone(), offset)),
            "{item} is not in the batch"
        );
        from.insert(partition, offset);
    }
    let is_left = |record: &&Record| {
        let partition = format!("{}-{}", record.origin.topic, record.origin.partition);
        from.get(&partition).is_some_and(|from| record.origin.offset >= *from)
    };
    records.iter().filter(is_left).cloned().collect()
}
