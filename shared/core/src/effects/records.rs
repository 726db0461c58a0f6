//! The records that effects write: SmartKeys and webhook deliveries, and the endpoints that deliveries go to.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use crate::{
    engine::{EventType, Timestamp, Token},
    envelope::Incoming,
    trace::TraceContext,
    webhooks::EventFilter,
};

/// The key of a reservation, and the version of the last event that was applied to it. The record is also kept if no
/// code was issued, so that an older event can be distinguished from a newer one.
#[derive(Clone, PartialEq, Eq)]
pub struct SmartKey {
    /// The reservation.
    pub token: Token,
    /// The version of the last event that was applied.
    pub version: u64,
    /// The code, 128 random bits, and the time of issue; `None` if the reservation was cancelled before its commit
    /// arrived.
    pub issued: Option<([u8; 16], Timestamp)>,
    /// The time since which the key opens nothing any more.
    pub revoked_at: Option<Timestamp>,
}

impl SmartKey {
    /// The code as text: 32 hexadecimal digits.
    pub fn code(&self) -> Option<String> {
        self.issued.map(|(code, _)| format!("{:032x}", u128::from_be_bytes(code)))
    }
}

/// Omits the code, so that a reader of a log cannot open a car with it.
impl fmt::Debug for SmartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issued_at = self.issued.map(|(_, at)| at);
        f.debug_struct("SmartKey")
            .field("token", &self.token)
            .field("version", &self.version)
            .field("issued_at", &issued_at)
            .field("revoked_at", &self.revoked_at)
            .finish()
    }
}

/// A webhook endpoint, enabled or not, and the events that it subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The endpoint's id.
    pub endpoint_id: Uuid,
    /// The types of events that it subscribes to.
    pub filter: EventFilter,
    /// Whether too many deliveries are pending for it, so that further ones are enqueued as failed.
    pub is_full: bool,
}

/// A delivery to enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The endpoint that receives it.
    pub endpoint_id: Uuid,
    /// The event. An endpoint gets one delivery per event.
    pub event_id: Uuid,
    /// The event's type.
    pub kind: EventType,
    /// The time of the event.
    pub event_at: Timestamp,
    /// The request body, the same for every attempt.
    pub body: Arc<str>,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
    /// Why it is enqueued as failed; `None` if it is pending.
    pub refused: Option<&'static str>,
}

impl NewDelivery {
    /// The delivery of an event to an endpoint. `body` is the same for all endpoints.
    pub fn new(event: &Incoming, endpoint_id: Uuid, body: Arc<str>, is_full: bool) -> Self {
        Self {
            endpoint_id,
            event_id: event.event_id,
            kind: event.kind,
            event_at: event.at,
            body,
            trace: event.trace,
            refused: is_full.then_some("too many deliveries were pending; redeliver or replay it"),
        }
    }
}
