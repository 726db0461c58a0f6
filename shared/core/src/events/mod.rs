//! The way of events: from the outbox to the event log, and from there to their effects.
//!
//! `relay.rs` publishes what the outbox has through a [`Publisher`]; `consume.rs` applies what the log delivers. The log is
//! Kafka (`kafka/`), or none: the embedded publisher hands events to the consumer of the same process, still through the
//! outbox, still at least once. Never: a change of the books. Next: `relay.rs`.

pub mod audit;
pub mod consume;
pub mod dead_letter;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod options;
pub mod relay;

use async_trait::async_trait;
pub use options::{EventLog, KafkaOptions, Login, Security};

use crate::envelope::OutboxEvent;

/// Why an event was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The event log cannot be reached, or not in time; another event would fare no better. It may be there all the same.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The event log refuses this event, whatever else is sent.
    #[error("the event log refuses it: {0}")]
    Rejected(String),
    /// It was not sent, because an earlier event of its key failed.
    #[error("an earlier event of its key failed")]
    Behind,
}

/// A way into the event log.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes events and says of each, in their order, what became of it. An event counts as published only when the log
    /// has it durably.
    ///
    /// Of one key, an event is sent only after the one before it came back good. Where it is dropped half-way, what was sent
    /// may be there, and comes again.
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>>;
}
