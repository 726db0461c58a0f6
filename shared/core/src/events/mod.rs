//! The event pipeline: from the outbox to the event log, and from there to the effects of events.
//!
//! `relay/` publishes the outbox through a [`Publisher`]; `consume.rs` applies the records that the log delivers. The
//! log is Kafka (`kafka/`), or there is none: then the embedded publisher passes events to a consumer in the same
//! process, still through the outbox and at least once. `audit.rs` compares the stages with each other. Never: a
//! change of resources or reservations. Next: `relay/`.

pub mod audit;
pub mod consume;
pub mod dead_letter;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod options;
pub mod relay;

use async_trait::async_trait;
pub use options::{EventLog, KafkaOptions, Login, Security, TopicRetention};

use crate::envelope::OutboxEvent;

/// The reason why an event was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The event log is unavailable, or did not answer in time. The event may have arrived all the same. Other events
    /// would fail too.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// A part of the event log is unavailable, so that events of this key would fail and those of other keys would
    /// not. The publisher holds such keys back itself ([`Publisher::admits`]).
    #[error("a part of the event log is unavailable: {0}")]
    PartUnavailable(String),
    /// The event log refuses this event, and would accept others.
    #[error("the event log refuses it: {0}")]
    Rejected(String),
    /// The event was not sent, because an earlier event of its key failed.
    #[error("an earlier event of its key failed")]
    Behind,
}

/// The producer side of an event log.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes events, and returns a result for each, in their order. `Ok` means that the log has stored the event
    /// durably.
    ///
    /// An event is sent only after the event before it of the same key was acknowledged. If the future is dropped,
    /// events that were sent may have arrived; the relay publishes them again.
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>>;

    /// Whether events of a key can be sent now. The relay leaves out the keys of parts of the log that are away, so
    /// that they do not take the place of others.
    fn admits(&self, _key: &str) -> bool {
        true
    }
}
