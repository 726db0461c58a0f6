//! Reads a topic as it stands, outside of any group: for operators and audits.

use std::{ops::ControlFlow, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::{
    connect::{self, Context},
    record,
};
use crate::{config::KafkaConfig, effects::Record};

/// How long a broker may take to answer, and how long no record may come before the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows `visit` the records of a topic, each partition in order, from an offset (by partition; `None` skips it) to what is
/// its end now, until it breaks off. Blocks: a thread of its own calls it.
///
/// # Errors
/// No broker answers, or records that should be there do not come.
pub fn read_topic(
    config: &KafkaConfig,
    topic: &str,
    from: impl Fn(i32) -> Option<i64>,
    mut visit: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<(), KafkaError> {
    let consumer: BaseConsumer<Context> = connect::client(config)
        .set("group.id", "bespeak-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .create_with_context(Context::new(config))?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let Some(from) = from(partition) else { continue };
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let from = from.max(low);
        if from >= high {
            continue;
        }
        let mut at = TopicPartitionList::new();
        at.add_partition_offset(topic, partition, Offset::Offset(from))?;
        consumer.assign(&at)?;
        loop {
            let message = consumer.poll(PATIENCE).ok_or(KafkaError::NoMessageReceived)??;
            let record = record(&message);
            if record.origin.partition != partition {
                continue;
            }
            let last = record.origin.offset + 1 >= high;
            if visit(record).is_break() {
                return Ok(());
            }
            if last {
                break;
            }
        }
    }
    Ok(())
}
