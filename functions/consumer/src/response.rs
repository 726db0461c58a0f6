//! What Lambda is told of a batch: which records must come again.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html> and
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>. An empty list means that all is done with.

use std::collections::BTreeMap;

use bespeak::envelope::Record;
use serde::Serialize;

/// An answer; the event source must be told to expect one (`ReportBatchItemFailures`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResponse {
    pub(crate) batch_item_failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    item_identifier: Item,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Item {
    /// From here on, the records of a partition come again. `partition` is the topic, a dash and its number.
    Place { partition: String, offset: i64 },
    /// This message comes again.
    Message(String),
}

impl BatchResponse {
    /// Of a topic: what is left of a batch comes again, from the first of each partition.
    pub(crate) fn of_topic(left: &[Record]) -> Self {
        let mut first: BTreeMap<String, i64> = BTreeMap::new();
        for Record { origin, .. } in left {
            let partition = format!("{}-{}", origin.topic, origin.partition);
            let offset = first.entry(partition).or_insert(origin.offset);
            *offset = origin.offset.min(*offset);
        }
        let places = first.into_iter().map(|(partition, offset)| Item::Place { partition, offset });
        Self { batch_item_failures: places.map(|item_identifier| Failure { item_identifier }).collect() }
    }

    /// Of a queue: these messages come again.
    pub(crate) fn of_queue(messages: impl Iterator<Item = String>) -> Self {
        let items = messages.map(Item::Message);
        Self { batch_item_failures: items.map(|item_identifier| Failure { item_identifier }).collect() }
    }
}

#[cfg(test)]
mod tests {
    use bespeak::envelope::Origin;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_partition_is_told_by_the_first_record_that_is_left() {
        let record = |partition, offset| Record {
            key: None,
            headers: Vec::new(),
            value: None,
            origin: Origin { topic: "t".into(), partition, offset },
        };
        let answer = BatchResponse::of_topic(&[record(0, 7), record(0, 8), record(3, 1)]);
        let places = json!({"batchItemFailures": [
            {"itemIdentifier": {"partition": "t-0", "offset": 7}},
            {"itemIdentifier": {"partition": "t-3", "offset": 1}},
        ]});
        assert_eq!(serde_json::to_value(answer).unwrap(), places);
        let messages = serde_json::to_value(BatchResponse::of_queue(["a".to_owned()].into_iter())).unwrap();
        assert_eq!(messages, json!({"batchItemFailures": [{"itemIdentifier": "a"}]}));
        assert_eq!(
            serde_json::to_value(BatchResponse::of_topic(&[])).unwrap(),
            json!({"batchItemFailures": []})
        );
    }
}
