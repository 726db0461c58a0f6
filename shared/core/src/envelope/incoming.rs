//! An event as a consumer applies it, decoded from a record of the event log.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    engine::{EventType, ResourceId, Timestamp, Token},
    trace::TraceContext,
};

/// An event as a consumer applies it: well-formed, of a type that is known here.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its id: the same however often it is delivered.
    pub event_id: Uuid,
    /// What happened.
    pub kind: EventType,
    /// When.
    pub at: Timestamp,
    /// To what.
    pub subject: Subject,
    /// The version of that reservation or resource: unique per subject, and ascending.
    pub version: u64,
    /// The source that it names.
    pub source: Arc<str>,
    /// Its data, as JSON.
    pub payload: Arc<str>,
    /// The trace of the request that caused it.
    pub trace: Option<TraceContext>,
}

/// What an event is about, as far as effects need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A reservation.
    Reservation {
        /// Its token.
        token: Token,
        /// What it takes.
        resources: Vec<ResourceId>,
    },
    /// A resource.
    Resource {
        /// Its id.
        id: ResourceId,
        /// Units available.
        available: u64,
    },
}
