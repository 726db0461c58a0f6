//! The Kafka consumer of a long-running process: a member of a consumer group that commits offsets after the
//! database's commit.
//!
//! Records whose offset was not committed are delivered again, to this member or another, and the inbox recognises
//! them. Never: a committed offset of a record that was neither applied nor stored as a dead letter.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

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
/// How long leaving the group may take when the process shuts down.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
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
        let mut client = connect::client(config);
        if let Some(instance) = &config.instance {
            client.set("group.instance.id", instance);
        }
        let stream: StreamConsumer<Context> = client
            .set("group.id", &config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", config.session.as_millis().to_string())
            .set("heartbeat.interval.ms", heartbeat(config.session).as_millis().to_string())
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "5000")
            .create_with_context(Context::new(config))?;
        stream.subscribe(&[&config.topic])?;
        Ok(Self { stream, consumer })
    }

    /// Consumes until `stop` is cancelled, or until the group refuses this member for good; then finishes the current
    /// batch, commits its offsets, and leaves the group.
    ///
    /// Nothing is read behind records that are not settled, because the offset that is committed for a later record of
    /// a partition covers all earlier ones.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(batch) = self.next_batch(&stop).await {
            match batch {
                Ok(records) => {
                    if self.settle(records, &stop).await.is_break() {
                        break;
                    }
                }
                Err(error) => {
                    if let Some((code, reason)) = self.stream.client().fatal_error() {
                        tracing::error!(%code, reason, "the Kafka consumer failed for good and is replaced");
                        break;
                    }
                    // An outage leaves a queue of errors in front of the next records. They are skipped quickly:
                    // librdkafka adds no more than one per attempt to connect, so a longer pause would only delay the
                    // recovery.
                    tracing::debug!(%error, "the topic cannot be read");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        // Commit the last offsets before leaving the group, so that the next member does not start earlier than needed.
        // Only offsets of settled records were stored. The calls wait for brokers, which may be away.
        let stream = self.stream;
        let left = tokio::task::spawn_blocking(move || {
            let _ = stream.commit_consumer_state(CommitMode::Sync);
            stream.unsubscribe();
        });
        let _ = tokio::time::timeout(LEAVE_WITHIN, left).await;
    }

    /// Waits for a record, and adds those that have arrived already. `None` when `stop` is cancelled.
    async fn next_batch(&self, stop: &CancellationToken) -> Option<Result<Vec<Record>, KafkaError>> {
        let first = tokio::select! {
            // A record may be ready at the same time; it must not be preferred to the end.
            biased;
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

    /// Settles records: applies each or stores it as a dead letter, and commits its offset. Waits here while the
    /// database is unavailable.
    ///
    /// This is the only place that knows whether all of a batch was settled. `Break` means that it was not, because
    /// the process shuts down: no further record may be read, and no further offset committed.
    async fn settle(&self, mut records: Vec<Record>, stop: &CancellationToken) -> ControlFlow<()> {
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
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (2 * wait).min(BACK_OFF_MAX);
        }
        ControlFlow::Continue(())
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

/// The interval of heartbeats: often enough that several may be lost before the session ends.
fn heartbeat(session: Duration) -> Duration {
    (session / 6).min(Duration::from_millis(500))
}

fn size(record: &Record) -> usize {
    record.value.as_ref().map_or(0, Vec::len)
}
