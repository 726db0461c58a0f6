//! What Lambda's event sources deliver: batches of Kafka's records, from the topic itself or through a queue.
//!
//! Shapes: <https://docs.aws.amazon.com/lambda/latest/dg/with-kafka-process.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>, and for what a pipe makes of a record,
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-msk.html>. Never: a record that is dropped because it
//! is odd. What cannot be decoded stays as it came, and is found to be no event later.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak::envelope::{Origin, Record};
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;

/// A batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Of a topic, partition by partition, each in the order of offsets.
    Kafka(Vec<Record>),
    /// Of a queue.
    Queue(Vec<Message>),
}

/// A message of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What its failure is reported by.
    pub(crate) id: String,
    /// The record that it bears.
    pub(crate) record: Record,
}

/// An event that is no batch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; consumer takes batches of Kafka (eventSource aws:kafka or SelfManagedKafka) and of queues (aws:sqs) whose messages are records of Kafka"
)]
pub(crate) struct NoBatch(String);

impl From<NoBatch> for Diagnostic {
    fn from(error: NoBatch) -> Self {
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
    /// Each of one name, whose value is the numbers of its bytes, with or without a sign.
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

impl Delivered {
    /// Parses an event.
    pub(crate) fn parse(event: Value) -> Result<Self, NoBatch> {
        let Value::Object(mut fields) = event else {
            return Err(NoBatch("the event is no JSON object".to_owned()));
        };
        let source = fields.get("eventSource").and_then(Value::as_str);
        if let Some(source @ ("aws:kafka" | "SelfManagedKafka")) = source {
            let source = source.to_owned();
            let records = fields.remove("records").unwrap_or_default();
            return of_topic(records).map_err(|reason| NoBatch(format!("a batch of {source}: {reason}")));
        }
        if let Some(source) = source {
            return Err(NoBatch(format!("the event is of {source:?}")));
        }
        match fields.remove("Records") {
            Some(records) => of_queue(records),
            None => Err(NoBatch("the event has neither eventSource nor Records".to_owned())),
        }
    }
}

fn of_topic(records: Value) -> Result<Delivered, serde_json::Error> {
    let partitions: BTreeMap<String, Vec<KafkaRecord>> = serde_json::from_value(records)?;
    let mut all = Vec::new();
    for (_, mut records) in partitions {
        records.sort_by_key(|record| record.offset);
        all.extend(records.into_iter().map(KafkaRecord::into_record));
    }
    Ok(Delivered::Kafka(all))
}

fn of_queue(records: Value) -> Result<Delivered, NoBatch> {
    let messages: Vec<QueueMessage> = serde_json::from_value(records)
        .map_err(|reason| NoBatch(format!("Records are no messages of a queue: {reason}")))?;
    if let Some(other) = messages.iter().find(|message| message.event_source != "aws:sqs") {
        return Err(NoBatch(format!("the event is of {:?}", other.event_source)));
    }
    Ok(Delivered::Queue(messages.into_iter().map(QueueMessage::into_message).collect()))
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
    /// A body that is no record becomes one that is no event.
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

/// Base64, or else the text as it is.
fn decoded(text: String) -> Vec<u8> {
    STANDARD.decode(&text).unwrap_or(text.into_bytes())
}

/// Of a number from -128 to 255.
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
    fn a_batch_of_a_topic_is_put_in_order_of_offsets_by_partition() {
        let event = json!({"eventSource": "aws:kafka", "eventSourceArn": "arn:..", "bootstrapServers": "b-1:9092",
            "records": {"t-1": [record(1, 9), record(1, 7)], "t-0": [record(0, 3)]}});
        let Ok(Delivered::Kafka(records)) = Delivered::parse(event) else { panic!("a batch") };
        let places: Vec<_> =
            records.iter().map(|record| (record.origin.partition, record.origin.offset)).collect();
        assert_eq!(places, [(0, 3), (1, 7), (1, 9)]);
        assert_eq!(records[0].key.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(records[0].headers[0], ("ce_id".to_owned(), b"ab".to_vec()));
        assert_eq!(records[0].headers[1].1, [0xff, 0xff]);
    }

    #[test]
    fn a_message_of_a_queue_bears_a_record_or_something_that_is_none() {
        let message =
            |id: &str, body: String| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
        let event =
            json!({"Records": [message("a", record(0, 3).to_string()), message("b", "hello".to_owned())]});
        let Ok(Delivered::Queue(messages)) = Delivered::parse(event) else { panic!("a batch") };
        assert_eq!((messages[0].id.as_str(), messages[0].record.origin.offset), ("a", 3));
        assert_eq!(messages[1].record.value.as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn nothing_in_a_batch_is_nothing_to_do() {
        let empty = json!({"eventSource": "SelfManagedKafka", "records": {}});
        assert_eq!(Delivered::parse(empty), Ok(Delivered::Kafka(Vec::new())));
        assert_eq!(Delivered::parse(json!({"Records": []})), Ok(Delivered::Queue(Vec::new())));
    }

    #[test]
    fn anything_else_is_refused_with_what_would_be_right() {
        let cases = [
            (json!(7), "no JSON object"),
            (json!({}), "neither eventSource nor Records"),
            (json!({"eventSource": "aws:mq"}), "\"aws:mq\""),
            (json!({"Records": [{"messageId": "1", "body": "", "eventSource": "aws:s3"}]}), "\"aws:s3\""),
            (json!({"Records": [{"s3": {}}]}), "no messages of a queue"),
            (json!({"eventSource": "aws:kafka", "records": []}), "a batch of aws:kafka"),
            (json!({"eventSource": "aws:kafka", "records": {"t-0": [{"topic": "t"}]}}), "missing field"),
        ];
        for (event, says) in cases {
            let refused = Delivered::parse(event.clone()).unwrap_err().to_string();
            assert!(refused.contains(says) && refused.contains("consumer takes"), "{event}: {refused}");
        }
    }
}
