//! The events of Lambda's event sources: batches of Kafka's records, from the topic itself or through a queue.
//!
//! Shapes: <https://docs.aws.amazon.com/lambda/latest/dg/with-kafka-process.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>, and for the records of an EventBridge pipe,
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-msk.html>. Never: a record that is dropped because it
//! is malformed. A record that cannot be decoded stays as it is, and the consumer makes a dead letter of it.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak::envelope::{Origin, Record};
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;

/// The records of one invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Records of a topic, partition by partition, each in the order of offsets.
    Kafka(Vec<Record>),
    /// Messages of a queue.
    Queue(Vec<Message>),
}

/// A message of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The id by which its failure is reported.
    pub(crate) id: String,
    /// The record that the message carries.
    pub(crate) record: Record,
}

/// The event is not a batch of a known event source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; consumer takes batches of Kafka (eventSource aws:kafka or SelfManagedKafka) and of queues (aws:sqs) whose messages are records of Kafka"
)]
pub(crate) struct InvalidEvent(String);

impl From<InvalidEvent> for Diagnostic {
    // Alarms may match the error type, so it stays as it was.
    fn from(error: InvalidEvent) -> Self {
        Self { error_type: "Bespeak.NoBatch".to_owned(), error_message: error.to_string() }
    }
}

#[derive(Deserialize)]
struct KafkaRecord {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Option<String>,
    /// Each map has one name. Its value is an array of bytes, as signed or unsigned numbers.
    #[serde(default)]
    headers: Vec<BTreeMap<String, Vec<i16>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueMessage {
    message_id: String,
    body: String,
    event_source: String,
}

impl Batch {
    /// Parses an event.
    pub(crate) fn parse(event: Value) -> Result<Self, InvalidEvent> {
        let Value::Object(mut fields) = event else {
            return Err(InvalidEvent("the event must be a JSON object".to_owned()));
        };
        let source = fields.get("eventSource").and_then(Value::as_str);
        if let Some(source @ ("aws:kafka" | "SelfManagedKafka")) = source {
            let source = source.to_owned();
            let records = fields.remove("records").unwrap_or_default();
            return of_topic(records)
                .map_err(|reason| InvalidEvent(format!("the batch of {source} is not valid: {reason}")));
        }
        if let Some(source) = source {
            return Err(InvalidEvent(format!("the event source {source:?} is not supported")));
        }
        match fields.remove("Records") {
            Some(records) => of_queue(records),
            None => Err(InvalidEvent("the event has neither eventSource nor Records".to_owned())),
        }
    }
}

fn of_topic(records: Value) -> Result<Batch, serde_json::Error> {
    let partitions: BTreeMap<String, Vec<KafkaRecord>> = serde_json::from_value(records)?;
    let mut all = Vec::new();
    for (_, mut records) in partitions {
        records.sort_by_key(|record| record.offset);
        all.extend(records.into_iter().map(KafkaRecord::into_record));
    }
    Ok(Batch::Kafka(all))
}

fn of_queue(records: Value) -> Result<Batch, InvalidEvent> {
    let messages: Vec<QueueMessage> = serde_json::from_value(records)
        .map_err(|reason| InvalidEvent(format!("`Records` must be messages of a queue: {reason}")))?;
    if let Some(other) = messages.iter().find(|message| message.event_source != "aws:sqs") {
        return Err(InvalidEvent(format!("the event source {:?} is not supported", other.event_source)));
    }
    Ok(Batch::Queue(messages.into_iter().map(QueueMessage::into_message).collect()))
}

impl KafkaRecord {
    fn into_record(self) -> Record {
        let headers = self.headers.into_iter().flatten();
        Record {
            key: self.key.map(decoded),
            headers: headers.map(|(name, value)| (name, value.into_iter().map(byte).collect())).collect(),
            value: self.value.map(decoded),
            origin: Origin { topic: self.topic.into(), partition: self.partition, offset: self.offset },
        }
    }
}

impl QueueMessage {
    /// A body that is not a record becomes the value of one, which the consumer then refuses as an event.
    fn into_message(self) -> Message {
        let record = serde_json::from_str(&self.body).map_or_else(
            |_| Record {
                key: None,
                headers: Vec::new(),
                value: Some(self.body.into_bytes()),
                origin: Origin { topic: Arc::from("queue"), partition: 0, offset: 0 },
            },
            KafkaRecord::into_record,
        );
        Message { id: self.message_id, record }
    }
}

/// Decodes base64, or returns the text as it is.
fn decoded(text: String) -> Vec<u8> {
    STANDARD.decode(&text).unwrap_or(text.into_bytes())
}

/// The byte of a number from -128 to 255.
fn byte(number: i16) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(partition: i32, offset: i64) -> Value {
        json!({"topic": "t", "partition": partition, "offset": offset, "timestamp": 1, "timestampType": "CREATE_TIME",
            "key": STANDARD.encode([0xff, 0]), "value": STANDARD.encode("{}"),
            "headers": [{"ce_id": [97, 98]}, {"odd": [-1, 255]}]})
    }

    #[test]
    fn records_of_a_topic_are_ordered_by_partition_and_offset() {
        let event = json!({"eventSource": "aws:kafka", "eventSourceArn": "arn:..", "bootstrapServers": "b-1:9092",
            "records": {"t-1": [record(1, 9), record(1, 7)], "t-0": [record(0, 3)]}});
        let Ok(Batch::Kafka(records)) = Batch::parse(event) else { panic!("a batch") };
        let places: Vec<_> =
            records.iter().map(|record| (record.origin.partition, record.origin.offset)).collect();
        assert_eq!(places, [(0, 3), (1, 7), (1, 9)]);
        assert_eq!(records[0].key.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(records[0].headers[0], ("ce_id".to_owned(), b"ab".to_vec()));
        assert_eq!(records[0].headers[1].1, [0xff, 0xff]);
    }

    #[test]
    fn a_message_whose_body_is_not_a_record_is_kept_as_a_value() {
        let message =
            |id: &str, body: String| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
        let event =
            json!({"Records": [message("a", record(0, 3).to_string()), message("b", "hello".to_owned())]});
        let Ok(Batch::Queue(messages)) = Batch::parse(event) else { panic!("a batch") };
        assert_eq!((messages[0].id.as_str(), messages[0].record.origin.offset), ("a", 3));
        assert_eq!(messages[1].record.value.as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn an_empty_batch_is_valid() {
        let empty = json!({"eventSource": "SelfManagedKafka", "records": {}});
        assert_eq!(Batch::parse(empty), Ok(Batch::Kafka(Vec::new())));
        assert_eq!(Batch::parse(json!({"Records": []})), Ok(Batch::Queue(Vec::new())));
    }

    #[test]
    fn invalid_events_are_refused_with_the_valid_ones() {
        let cases = [
            (json!(7), "must be a JSON object"),
            (json!({}), "neither eventSource nor Records"),
            (json!({"eventSource": "aws:mq"}), "\"aws:mq\""),
            (json!({"Records": [{"messageId": "1", "body": "", "eventSource": "aws:s3"}]}), "\"aws:s3\""),
            (json!({"Records": [{"s3": {}}]}), "must be messages of a queue"),
            (json!({"eventSource": "aws:kafka", "records": []}), "the batch of aws:kafka"),
            (json!({"eventSource": "aws:kafka", "records": {"t-0": [{"topic": "t"}]}}), "missing field"),
        ];
        for (event, expected) in cases {
            let refused = Batch::parse(event.clone()).unwrap_err().to_string();
            assert!(refused.contains(expected) && refused.contains("consumer takes"), "{event}: {refused}");
        }
    }
}
