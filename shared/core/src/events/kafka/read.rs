//! Reads a topic from one offset to another, outside of any consumer group: for operators and audits.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
    topic_partition_list::TopicPartitionListElem,
};

use super::{
    connect::{self, Context},
    record,
};
use crate::{engine::Timestamp, envelope::Record, events::KafkaOptions};

/// The time-out for an answer of a broker, and for the next record before the end of a partition.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The wait for records behind the end that the broker reported.
const AT_END: Duration = Duration::from_secs(1);

/// The name under which topics are read: of a group that no client joins.
const GROUP: &str = "bespeak-reader";

/// A partition that is being read.
struct Progress {
    /// The offset to read next.
    next: i64,
    /// The end: the high watermark when the read began.
    high: i64,
}

impl Progress {
    fn is_at_end(&self) -> bool {
        self.next >= self.high
    }
}

/// Passes the records of a topic to `visit`, those of each partition in order, from an offset to the end that the
/// partition has now, until `visit` breaks off. `from` returns the first offset of a partition; `None` skips the
/// partition. Blocks, so call it on a thread that may block.
///
/// The end of a partition is its high watermark when the read began, so that a topic that keeps growing does not keep
/// the reader for ever. Some brokers report a watermark that lies before the end of the last batch. So when every
/// partition is at its watermark, the reader waits `AT_END` for further records, and takes them unless they were
/// written after the read began. `PartitionEOF` ends a partition only at its watermark; records that are missing
/// before it are an error.
///
/// # Errors
/// No broker answers, or a record before the end does not arrive in time.
pub fn read_topic(
    config: &KafkaOptions,
    topic: &str,
    from: impl Fn(i32) -> Option<i64>,
    mut visit: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<(), KafkaError> {
    let consumer = reader(config, GROUP)?;
    let began = Timestamp::now().as_millisecond();
    let mut partitions = assign(&consumer, topic, from)?;
    while !partitions.is_empty() {
        let all_at_end = partitions.values().all(Progress::is_at_end);
        let message = match consumer.poll(if all_at_end { AT_END } else { TIMEOUT }) {
            Some(Ok(message)) => message,
            None if all_at_end => break,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                partitions.retain(|other, progress| *other != partition || !progress.is_at_end());
                continue;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::NoMessageReceived),
        };
        let record = record(&message);
        let Some(progress) = partitions.get_mut(&record.origin.partition) else { continue };
        // Behind the reported end, a record that was written after the read began is not part of it.
        if progress.is_at_end() && message.timestamp().to_millis().is_some_and(|at| at > began) {
            partitions.remove(&record.origin.partition);
            continue;
        }
        progress.next = record.origin.offset + 1;
        if visit(record).is_break() {
            break;
        }
    }
    Ok(())
}

/// The offset of the oldest record of a topic with one partition. Blocks.
///
/// # Errors
/// No broker answers.
pub(super) fn first_offset(config: &KafkaOptions, topic: &str) -> Result<i64, KafkaError> {
    let consumer = reader(config, GROUP)?;
    metadata_of(&consumer, topic)?;
    Ok(consumer.fetch_watermarks(topic, 0, TIMEOUT)?.0)
}

/// The offset of the newest record of a topic with one partition; `None` if there is none. Blocks.
///
/// # Errors
/// No broker answers.
pub(super) fn last_offset(config: &KafkaOptions, topic: &str) -> Result<Option<i64>, KafkaError> {
    let consumer = reader(config, GROUP)?;
    metadata_of(&consumer, topic)?;
    let (_, high) = consumer.fetch_watermarks(topic, 0, TIMEOUT)?;
    let mut last = None;
    // Some brokers report a watermark that lies before the end, so the records behind it are read.
    let visit = |record: Record| {
        last = Some(record.origin.offset);
        ControlFlow::Continue(())
    };
    read_topic(config, topic, |partition| (partition == 0).then_some(high - 1), visit)?;
    Ok(last)
}

/// The offsets that a consumer group has committed, per partition of the topic of events. Blocks.
///
/// # Errors
/// No broker answers.
pub(in crate::events) fn committed_offsets(config: &KafkaOptions) -> Result<HashMap<i32, i64>, KafkaError> {
    let consumer = reader(config, &config.group)?;
    let metadata = metadata_of(&consumer, &config.topic)?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        asked.add_partition(&config.topic, partition.id());
    }
    let committed = consumer.committed_offsets(asked, TIMEOUT)?;
    let offset = |of: TopicPartitionListElem<'_>| match of.offset() {
        Offset::Offset(offset) => Some((of.partition(), offset)),
        _ => None,
    };
    Ok(committed.elements().into_iter().filter_map(offset).collect())
}

/// Deletes the records of a topic with one partition before an offset.
///
/// # Errors
/// No broker answers, or it does not support or allow that.
pub(super) async fn delete_records(
    config: &KafkaOptions,
    topic: &str,
    before: i64,
) -> Result<(), KafkaError> {
    let admin: AdminClient<Context> = connect::client(config).create_with_context(Context::new(config))?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(before))?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let deleted = admin.delete_records(&offsets, &options).await?;
    deleted.elements().iter().try_for_each(TopicPartitionListElem::error)
}

/// A consumer that joins no group; it reads the offsets of `group`.
fn reader(config: &KafkaOptions, group: &str) -> Result<BaseConsumer<Context>, KafkaError> {
    connect::client(config)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create_with_context(Context::new(config))
}

/// Assigns every partition that has records to read, and returns how far each is to be read.
fn assign(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    from: impl Fn(i32) -> Option<i64>,
) -> Result<HashMap<i32, Progress>, KafkaError> {
    let metadata = metadata_of(consumer, topic)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut progress = HashMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let Some(from) = from(partition) else { continue };
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        // Retention may have deleted the records before `low`.
        let next = from.max(low);
        if next < high {
            assignment.add_partition_offset(topic, partition, Offset::Offset(next))?;
            progress.insert(partition, Progress { next, high });
        }
    }
    consumer.assign(&assignment)?;
    Ok(progress)
}

/// Fetches the metadata of a topic. A login by token gets its token only while the consumer is polled, so the
/// consumer is polled between two attempts.
fn metadata_of(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Metadata, KafkaError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) {
            Err(_) if Instant::now() < deadline => drop(consumer.poll(Duration::from_millis(50))),
            fetched => return fetched,
        }
    }
}
