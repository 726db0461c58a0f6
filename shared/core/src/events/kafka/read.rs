//! Reads a topic as it stands, outside of any group: for operators and audits.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    metadata::Metadata,
};

use super::{
    connect::{self, Context},
    record,
};
use crate::{engine::Timestamp, envelope::Record, events::KafkaOptions};

/// How long a broker may take to answer, and how long no record may come before the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is waited for records behind the end that the broker has told.
const AT_END: Duration = Duration::from_millis(500);

/// Shows `visit` the records of a topic, each partition in order, from an offset (by partition; `None` skips it) to what is
/// its end now, until it breaks off. Blocks: a thread of its own calls it.
///
/// # Errors
/// No broker answers, or records that should be there do not come.
pub fn read_topic(
    config: &KafkaOptions,
    topic: &str,
    from: impl Fn(i32) -> Option<i64>,
    mut visit: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<(), KafkaError> {
    let consumer: BaseConsumer<Context> = connect::client(config)
        .set("group.id", "bespeak-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create_with_context(Context::new(config))?;
    let began = Timestamp::now().as_millisecond();
    let metadata = metadata_of(&consumer, topic)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut ends: HashMap<i32, (i64, i64)> = HashMap::new();
    let mut at = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let Some(from) = from(partition) else { continue };
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        if from.max(low) < high {
            at.add_partition_offset(topic, partition, Offset::Offset(from.max(low)))?;
            ends.insert(partition, (from.max(low), high));
        }
    }
    consumer.assign(&at)?;
    // Some brokers tell an end that lies before the last batch's: what follows at once is read too.
    while !ends.is_empty() {
        let all_told = ends.values().all(|(next, high)| next >= high);
        let message = match consumer.poll(if all_told { AT_END } else { PATIENCE }) {
            Some(Ok(message)) => message,
            None if all_told => break,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.retain(|other, (next, high)| *other != partition || *next < *high);
                continue;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::NoMessageReceived),
        };
        let record = record(&message);
        let Some((next, high)) = ends.get_mut(&record.origin.partition) else { continue };
        if *next >= *high && message.timestamp().to_millis().is_some_and(|at| at > began) {
            ends.remove(&record.origin.partition);
            continue;
        }
        *next = record.origin.offset + 1;
        if visit(record).is_break() {
            break;
        }
    }
    Ok(())
}

/// What brokers say of a topic. A login by token is answered while the consumer is polled, so it is, between two questions.
fn metadata_of(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Metadata, KafkaError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) {
            Err(_) if Instant::now() < until => drop(consumer.poll(Duration::from_millis(50))),
            asked => return asked,
        }
    }
}
