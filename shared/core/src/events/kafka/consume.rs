//! The native consumer: a member of a group, whose offsets are committed after the database's commit.
//!
//! What it was given and did not commit comes again, to it or to another; the inbox knows it. Never: an offset committed for
//! a record that is neither applied nor set aside.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::KafkaError,
};
use tokio_util::sync::CancellationToken;

use super::{
    connect::{self, Context},
    record,
};
use crate::{
    envelope::Record,
    events::{KafkaOptions, consume::Consumer},
    telemetry,
};

/// Records that one transaction takes at the most, and their bytes.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;
/// After an error of the event log.
const AFTER_ERROR: Duration = Duration::from_millis(5);
/// How long it waits after the database failed: at first, and at the most.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// A member of a consumer group.
pub struct KafkaConsumer {
    stream: StreamConsumer<Context>,
    consumer: Arc<Consumer>,
}

impl KafkaConsumer {
    /// Joins the group when it is run. `consumer` applies what it reads.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &KafkaOptions, consumer: Arc<Consumer>) -> Result<Self, KafkaError> {
        let stream: StreamConsumer<Context> = connect::client(config)
            .set("group.id", &config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // The shortest that brokers take by default: whoever is gone is replaced soon.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "5000")
            .create_with_context(Context::new(config))?;
        stream.subscribe(&[&config.topic])?;
        Ok(Self { stream, consumer })
    }

    /// Consumes until told to stop; then finishes the batch under way, commits its offsets, and leaves the group.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(gathered) = self.gather(&stop).await {
            match gathered {
                Ok(records) => self.settle(records, &stop).await,
                Err(error) => {
                    // An outage leaves a queue of errors, which stand before what comes after it: they are passed by at
                    // once, and come no faster than librdkafka tries to connect.
                    tracing::debug!(%error, "no events can be read from the topic");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        // The last offsets are committed before the group hears of it.
        let _ = self.stream.commit_consumer_state(CommitMode::Sync);
        self.stream.unsubscribe();
    }

    /// Waits for a record, and takes those that are there already; `None` when told to stop.
    async fn gather(&self, stop: &CancellationToken) -> Option<Result<Vec<Record>, KafkaError>> {
        let first = tokio::select! {
            () = stop.cancelled() => return None,
            first = self.stream.recv() => first,
        };
        let first = match first {
            Ok(message) => record(&message),
            Err(error) => return Some(Err(error)),
        };
        let mut bytes = size(&first);
        let mut records = vec![first];
        while records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            // An error that waits there comes again.
            let Some(Ok(message)) = self.stream.recv().now_or_never() else { break };
            let record = record(&message);
            bytes += size(&record);
            records.push(record);
        }
        Some(Ok(records))
    }

    /// Applies records, and commits their offsets; where it must wait for the database, it waits here, so that none is
    /// passed over.
    async fn settle(&self, mut records: Vec<Record>, stop: &CancellationToken) {
        let mut wait = AGAIN_FIRST;
        while !records.is_empty() {
            let done = match self.consumer.consume(&records).await {
                Ok(_) => records.len(),
                Err(stopped) => {
                    if wait == AGAIN_FIRST {
                        tracing::error!(
                            reason = telemetry::chain(&stopped.why),
                            "events cannot be consumed; they wait in the topic"
                        );
                    }
                    stopped.done
                }
            };
            crate::failpoint::reach("consumer.applied").await;
            self.commit(&records[..done]);
            records.drain(..done);
            if records.is_empty() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (2 * wait).min(AGAIN_MAX);
        }
    }

    /// Notes, per partition, the offset after the last record. What fails is committed with the next, or comes again.
    fn commit(&self, records: &[Record]) {
        let mut next: HashMap<(&str, i32), i64> = HashMap::new();
        for Record { origin, .. } in records {
            next.insert((&origin.topic, origin.partition), origin.offset + 1);
        }
        let mut offsets = TopicPartitionList::with_capacity(next.len());
        for ((topic, partition), offset) in next {
            // It fails only for offsets that no broker gives.
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(offset));
        }
        if offsets.count() == 0 {
            return;
        }
        let stored = self.stream.store_offsets(&offsets);
        if let Err(error) = stored.and_then(|()| self.stream.commit(&offsets, CommitMode::Async)) {
            tracing::debug!(%error, "offsets are not committed now: these partitions are another's by now");
        }
    }
}

fn size(record: &Record) -> usize {
    record.value.as_ref().map_or(0, Vec::len)
}
