//! The Kafka consumer of a long-running process: a member of a consumer group that commits offsets after the
//! database's commit.
//!
//! Records whose offset was not committed are delivered again, to this member or another, and the inbox recognises
//! them. Never: a committed offset of a record that was neither applied nor stored as a dead letter.

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

/// The most records in one transaction, and the bytes after which a batch is full.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;
/// The pause after an error of the event log.
const AFTER_ERROR: Duration = Duration::from_millis(5);
/// The first and the longest back-off after the database failed.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A member of a consumer group.
pub struct KafkaConsumer {
    stream: StreamConsumer<Context>,
    consumer: Arc<Consumer>,
}

impl KafkaConsumer {
    /// A member that joins the group when it runs. `consumer` applies the records.
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
            // The shortest session time-out that brokers accept by default, so that a dead member is replaced soon.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "5000")
            .create_with_context(Context::new(config))?;
        stream.subscribe(&[&config.topic])?;
        Ok(Self { stream, consumer })
    }

    /// Consumes until `stop` is cancelled; then finishes the current batch, commits its offsets, and leaves the group.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(batch) = self.next_batch(&stop).await {
            match batch {
                Ok(records) => self.apply_and_commit(records, &stop).await,
                Err(error) => {
                    // An outage leaves a queue of errors in front of the next records. They are skipped quickly:
                    // librdkafka adds no more than one per attempt to connect, so a longer pause would only delay the
                    // recovery.
                    tracing::debug!(%error, "the topic cannot be read");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        // Commit the last offsets before leaving the group, so that the next member does not start earlier than needed.
        let _ = self.stream.commit_consumer_state(CommitMode::Sync);
        self.stream.unsubscribe();
    }

    /// Waits for a record, and adds those that have arrived already. `None` when `stop` is cancelled.
    async fn next_batch(&self, stop: &CancellationToken) -> Option<Result<Vec<Record>, KafkaError>> {
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
            // Ends the batch at an error as well; the next call to `recv` will meet further errors of the same outage.
            let Some(Ok(message)) = self.stream.recv().now_or_never() else { break };
            let record = record(&message);
            bytes += size(&record);
            records.push(record);
        }
        Some(Ok(records))
    }

    /// Applies records and commits their offsets. Waits here while the database is unavailable, so that no record is
    /// passed over.
    async fn apply_and_commit(&self, mut records: Vec<Record>, stop: &CancellationToken) {
        let mut wait = BACK_OFF_FIRST;
        while !records.is_empty() {
            let done = match self.consumer.consume(&records).await {
                Ok(_) => records.len(),
                Err(stopped) => {
                    if wait == BACK_OFF_FIRST {
                        tracing::error!(
                            reason = telemetry::chain(&stopped.cause),
                            "events cannot be consumed; they wait in the topic"
                        );
                    }
                    stopped.done
                }
            };
            crate::failpoint::reach("consumer.applied").await;
            self.commit_offsets(&records[..done]);
            records.drain(..done);
            if records.is_empty() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (2 * wait).min(BACK_OFF_MAX);
        }
    }

    /// Commits, per partition, the offset after the last record. If that fails, the offset is committed with the next
    /// batch, or the records are delivered again.
    fn commit_offsets(&self, records: &[Record]) {
        let mut next: HashMap<(&str, i32), i64> = HashMap::new();
        for Record { origin, .. } in records {
            next.insert((&origin.topic, origin.partition), origin.offset + 1);
        }
        let mut offsets = TopicPartitionList::with_capacity(next.len());
        for ((topic, partition), offset) in next {
            // Fails only for negative offsets, which no broker assigns.
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(offset));
        }
        if offsets.count() == 0 {
            return;
        }
        let stored = self.stream.store_offsets(&offsets);
        if let Err(error) = stored.and_then(|()| self.stream.commit(&offsets, CommitMode::Async)) {
            tracing::debug!(%error, "the offsets cannot be committed: another member may own these partitions by now");
        }
    }
}

fn size(record: &Record) -> usize {
    record.value.as_ref().map_or(0, Vec::len)
}
