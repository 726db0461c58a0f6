//! The answer to a batch: the records that Lambda must deliver again.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html> and
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>. An empty list means that
//! every record was handled.

use std::collections::BTreeMap;

use bespeak::envelope::Record;
use serde::Serialize;

/// The answer. The event source mapping must expect it (`ReportBatchItemFailures`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResponse {
    pub(crate) batch_item_failures: Vec<ItemFailure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemFailure {
    item_identifier: ItemIdentifier,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum ItemIdentifier {
    /// The records of a partition from this offset on. `partition` is the topic, a dash and the number.
    Place { partition: String, offset: i64 },
    /// The message with this id.
    Message(String),
}

impl BatchResponse {
    /// The response for a topic: each partition is delivered again from its first remaining record.
    pub(crate) fn of_topic(remaining: &[Record]) -> Self {
        let mut first: BTreeMap<String, i64> = BTreeMap::new();
        for Record { origin, .. } in remaining {
            let partition = format!("{}-{}", origin.topic, origin.partition);
            let offset = first.entry(partition).or_insert(origin.offset);
            *offset = origin.offset.min(*offset);
        }
        let places = first.into_iter().map(|(partition, offset)| ItemIdentifier::Place { partition, offset });
        Self { batch_item_failures: places.map(|item_identifier| ItemFailure { item_identifier }).collect() }
    }

    /// The response for a queue: these messages are delivered again.
    pub(crate) fn of_queue(messages: impl Iterator<Item = String>) -> Self {
        let items = messages.map(ItemIdentifier::Message);
        Self { batch_item_failures: items.map(|item_identifier| ItemFailure { item_identifier }).collect() }
    }
}

#[cfg(test)]
mod tests {
    use bespeak::envelope::Origin;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_partition_is_reported_from_its_first_remaining_record() {
        let record = |partition, offset| Record {
            key: None,
            headers: Vec::new(),
            value: None,
            origin: Origin { topic: "t".into(), partition, offset },
        };
        let response = BatchResponse::of_topic(&[record(0, 7), record(0, 8), record(3, 1)]);
        let places = json!({"batchItemFailures": [
            {"itemIdentifier": {"partition": "t-0", "offset": 7}},
            {"itemIdentifier": {"partition": "t-3", "offset": 1}},
        ]});
        assert_eq!(serde_json::to_value(response).unwrap(), places);
        let messages = serde_json::to_value(BatchResponse::of_queue(["a".to_owned()].into_iter())).unwrap();
        assert_eq!(messages, json!({"batchItemFailures": [{"itemIdentifier": "a"}]}));
        assert_eq!(
            serde_json::to_value(BatchResponse::of_topic(&[])).unwrap(),
            json!({"batchItemFailures": []})
        );
    }
}
