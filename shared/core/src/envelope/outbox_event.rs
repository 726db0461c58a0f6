//! An event as the outbox stores it: the fields that are encoded, and those that decide about its publication.

use uuid::Uuid;

use crate::{engine::Timestamp, trace::TraceContext};

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The position in the outbox.
    pub id: i64,
    /// The id of the event, the same for every delivery.
    pub event_id: Uuid,
    /// The shard of the key, 0 to 63.
    pub shard: u8,
    /// The key within which events are ordered: a token or the id of a resource.
    pub key: String,
    /// The version of the reservation or resource.
    pub version: u64,
    /// The CloudEvents type.
    pub kind: String,
    /// The data, as JSON.
    pub payload: String,
    /// The time of the event.
    pub created_at: Timestamp,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
    /// The number of consecutive refusals of the key.
    pub attempts: u32,
    /// Whether the key failed before and its back-off is over.
    pub blocked: bool,
}
