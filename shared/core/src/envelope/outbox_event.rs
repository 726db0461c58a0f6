//! An event as the outbox stores it: what is encoded, and what decides about its publication.

use uuid::Uuid;

use crate::{engine::Timestamp, trace::TraceContext};

/// An event as the outbox keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its place in the outbox.
    pub id: i64,
    /// Its id in the event log: the same however often it is sent.
    pub event_id: Uuid,
    /// The shard of its key, 0 to 63.
    pub shard: u8,
    /// What it is ordered by: a token or a resource's id.
    pub key: String,
    /// The version of the reservation or resource that it belongs to.
    pub version: u64,
    /// Its CloudEvents type.
    pub kind: String,
    /// Its data, as JSON.
    pub payload: String,
    /// When it happened.
    pub created_at: Timestamp,
    /// The trace of the request that caused it.
    pub trace: Option<TraceContext>,
    /// How often in a row its key was refused.
    pub attempts: u32,
    /// Whether its key failed before, and its time has come.
    pub blocked: bool,
}
