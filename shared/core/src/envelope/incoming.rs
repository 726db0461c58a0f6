//! An event in the form in which a consumer applies it, decoded from a record of the event log.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    engine::{EventType, ResourceId, Timestamp, Token},
    trace::TraceContext,
};

/// A decoded event: well-formed and of a known type.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The id, the same for every delivery of the event.
    pub event_id: Uuid,
    /// The type of the event.
    pub kind: EventType,
    /// The time of the event.
    pub at: Timestamp,
    /// The reservation or resource that changed.
    pub subject: Subject,
    /// The version of the subject: unique per subject, and ascending.
    pub version: u64,
    /// The CloudEvents source.
    pub source: Arc<str>,
    /// The data, as JSON.
    pub payload: Arc<str>,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
}

/// The subject of an event, with the fields that effects need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A reservation.
    Reservation {
        /// Its token.
        token: Token,
        /// The resources of its items.
        resources: Vec<ResourceId>,
    },
    /// A resource.
    Resource {
        /// Its id.
        id: ResourceId,
        /// The units available after the event.
        available: u64,
    },
}
