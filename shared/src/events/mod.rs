//! The way of events: from the outbox to the event log, and from there to their effects.
//!
//! `relay.rs` publishes what the outbox has through a [`Publisher`]; `consume.rs` applies what the log delivers. The log is
//! Kafka (`kafka/`), or none: the embedded publisher hands events to the consumer of the same process, still through the
//! outbox, still at least once. Never: a change of the books. Next: `relay.rs`.

pub mod asyncapi;
pub mod audit;
pub mod consume;
pub mod dead_letter;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod notice;
pub mod relay;
mod schema;

use async_trait::async_trait;
pub use notice::{StockNotice, StockNoticeType};
pub use schema::schemas;

use crate::{
    effects::{CE_TRACEPARENT, Origin, Record, TRACEPARENT},
    store::OutboxEvent,
};

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

/// The record of an event, as every way into the event log sends it.
pub fn record(event: &OutboxEvent, source: &str) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", &event.event_id.to_string()),
        header("ce_source", source),
        header("ce_type", &event.kind),
        header("ce_time", &event.created_at.to_string()),
        header("ce_subject", &event.key),
        header("ce_keyversion", &event.version.to_string()),
        header("content-type", "application/json"),
    ];
    // Once for those who know the event, once for those who see no more than a message: what passes it on may write its own.
    if let Some(trace) = event.trace {
        let traceparent = trace.traceparent();
        headers.push(header(CE_TRACEPARENT, traceparent.as_str()));
        headers.push(header(TRACEPARENT, traceparent.as_str()));
    }
    Record {
        key: Some(event.key.clone().into_bytes()),
        headers,
        value: Some(event.payload.clone().into_bytes()),
        origin: Origin { topic: "outbox".into(), partition: 0, offset: event.id },
    }
}
