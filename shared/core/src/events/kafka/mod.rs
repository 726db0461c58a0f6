//! The event log on Kafka, or on another broker that speaks its protocol.
//!
//! `publish.rs` is the publisher of the relay, `consume.rs` the consumer of a long-running process, `dead_letters.rs`
//! the topic of dead letters; `topics.rs` creates and checks the topics; `read.rs` reads a topic for operators. Next:
//! `connect.rs` for the configuration that every client shares.

mod connect;
mod consume;
mod dead_letters;
mod partitions;
mod producer;
mod publish;
mod read;
mod topic_settings;
mod topics;

use rdkafka::{
    Message,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
};

use crate::envelope::{Origin, Record};
pub use consume::KafkaConsumer;
pub use dead_letters::TopicDeadLetters;
pub use publish::KafkaPublisher;
pub(super) use read::committed_offsets;
pub use read::read_topic;
pub use topics::{TopicError, ensure_topics};

/// Copies a message into a record.
fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        let header = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec).unwrap_or_default())
        };
        headers.iter().map(header).collect()
    });
    Record {
        key: message.key().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
        origin: Origin {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
        },
    }
}

fn headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new();
    for (key, value) in headers {
        owned = owned.insert(Header { key, value: Some(value) });
    }
    owned
}
