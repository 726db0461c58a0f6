//! Events as data. An event is a snapshot of the record that changed, taken by the command that changed it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Holder, Items, Metadata, Reservation, Resource, ResourceId, Status, TOTAL_MAX, Timestamp, Token,
};
use crate::trace::TraceContext;

/// The type of an event. The names are CloudEvents types with a version: additive changes keep `v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A hold was made.
    Held,
    /// A hold became final.
    Committed,
    /// A hold was given back by its holder.
    Released,
    /// A hold was given back at the end of its TTL.
    Expired,
    /// A hold's TTL was lengthened.
    Extended,
    /// A committed reservation was given back.
    Cancelled,
    /// The `available` of a resource became 0.
    Depleted,
    /// The `available` of a resource was 0, and is no longer.
    Restored,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Committed,
        Self::Released,
        Self::Expired,
        Self::Extended,
        Self::Cancelled,
        Self::Depleted,
        Self::Restored,
    ];

    /// Parses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The CloudEvents `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "bespeak.reservation.held.v1",
            Self::Committed => "bespeak.reservation.committed.v1",
            Self::Released => "bespeak.reservation.released.v1",
            Self::Expired => "bespeak.reservation.expired.v1",
            Self::Extended => "bespeak.reservation.extended.v1",
            Self::Cancelled => "bespeak.reservation.cancelled.v1",
            Self::Depleted => "bespeak.stock.depleted.v1",
            Self::Restored => "bespeak.stock.restored.v1",
        }
    }
}

/// The ordering key of an event: consumers receive the events of one key in the order of their versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventKey {
    /// A reservation's token.
    Reservation(Token),
    /// A resource's id.
    Resource(ResourceId),
}

impl EventKey {
    /// The key as text, as the outbox and Kafka store it.
    pub fn text(&self) -> String {
        match self {
            Self::Reservation(token) => token.to_string(),
            Self::Resource(id) => id.to_string(),
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The type.
    pub kind: EventType,
    /// The ordering key: the reservation or resource that the event is about.
    pub key: EventKey,
    /// The version of the reservation or resource after the change; unique for each key.
    pub version: u64,
    /// The instant of the change.
    pub at: Timestamp,
    /// The record after the change.
    pub payload: Payload,
    /// The trace of the request that caused the change.
    pub trace: Option<TraceContext>,
}

/// The `data` of an event. Within `v1`, fields are added but never removed or changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Payload {
    /// A reservation, after the change.
    #[serde(rename_all = "camelCase")]
    Reservation {
        /// The token of the reservation.
        token: Token,
        /// The version of the reservation.
        #[schemars(range(min = 1))]
        version: u64,
        /// The status after the change.
        status: Status,
        /// The items that the reservation takes.
        items: Items,
        /// The customer on whose behalf it was made.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Holder")]
        holder: Option<Holder>,
        /// The data that the client attached.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Metadata")]
        metadata: Option<Arc<Metadata>>,
        /// The instant at which it was made.
        created_at: Timestamp,
        /// The instant at which the hold ends or ended.
        expires_at: Timestamp,
    },
    /// A resource, after the change.
    #[serde(rename_all = "camelCase")]
    Resource {
        /// The id of the resource.
        resource_id: ResourceId,
        /// The version of the resource.
        #[schemars(range(min = 1))]
        version: u64,
        /// Units that are neither held nor committed.
        #[schemars(range(max = TOTAL_MAX))]
        available_stock: u64,
        /// Units in total.
        #[schemars(range(max = TOTAL_MAX))]
        total_stock: u64,
    },
}

/// The movements of stock that become events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportedStock {
    /// The edges: `available` becomes 0, or leaves 0.
    #[default]
    Edges,
    /// The edges, and each command after which more units of a resource are available than before.
    EveryGiveBack,
}

impl Event {
    /// An event about a reservation, as it is after the change.
    pub(super) fn of_reservation(kind: EventType, reservation: &Reservation) -> Self {
        Self {
            kind,
            key: EventKey::Reservation(reservation.token),
            version: reservation.version,
            at: reservation.updated_at,
            payload: Payload::Reservation {
                token: reservation.token,
                version: reservation.version,
                status: reservation.status,
                items: reservation.items.clone(),
                holder: reservation.holder.clone(),
                metadata: reservation.metadata.clone(),
                created_at: reservation.created_at,
                expires_at: reservation.expires_at,
            },
            trace: None,
        }
    }

    /// The stock event of a command that moved the `available` of a resource from `before` to its present value; `None`
    /// if there is nothing to report.
    pub fn of_movement(before: u64, resource: &Resource, reported: ReportedStock) -> Option<Self> {
        let kind = match (before, resource.available) {
            (1.., 0) => EventType::Depleted,
            (0, 1..) => EventType::Restored,
            (before, now) if now > before && reported == ReportedStock::EveryGiveBack => EventType::Restored,
            _ => return None,
        };
        Some(Self::of_resource(kind, resource))
    }

    /// An event about a resource, as it is after the change.
    fn of_resource(kind: EventType, resource: &Resource) -> Self {
        Self {
            kind,
            key: EventKey::Resource(resource.id.clone()),
            version: resource.version,
            at: resource.updated_at,
            payload: Payload::Resource {
                resource_id: resource.id.clone(),
                version: resource.version,
                available_stock: resource.available,
                total_stock: resource.total,
            },
            trace: None,
        }
    }
}
