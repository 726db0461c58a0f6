//! The records in the books: resources and reservations.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Fingerprint, Holder, IdempotencyKey, Items, Metadata, ResourceId, Timestamp, Token, violation::Violation,
};

/// The action that a commit of a resource triggers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Fulfilment {
    /// No action.
    #[default]
    None,
    /// A SmartKey is issued for the reservation.
    SmartKey,
}

impl Fulfilment {
    /// Every effect.
    pub const ALL: [Self; 2] = [Self::None, Self::SmartKey];

    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SmartKey => "SMART_KEY",
        }
    }

    /// Parses [`Self::as_str`].
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        match text {
            "NONE" => Ok(Self::None),
            "SMART_KEY" => Ok(Self::SmartKey),
            _ => Err(Violation::new(field, format!("must be NONE or SMART_KEY, was {text:?}"))),
        }
    }
}

/// A resource: something countable. `available + held + committed = total` at every instant (I1), where `held`
/// includes an overdue hold until its expiry is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The id.
    pub id: ResourceId,
    /// The number of units in total.
    pub total: u64,
    /// The number of units that are neither held nor committed.
    pub available: u64,
    /// The version: 1 at creation, incremented by each command that moves units or changes the resource.
    pub version: u64,
    /// The action that a commit triggers.
    pub fulfilment: Fulfilment,
    /// The instant of its creation.
    pub created_at: Timestamp,
    /// The instant of its last change.
    pub updated_at: Timestamp,
}

impl Resource {
    /// Units held or committed.
    pub fn in_use(&self) -> u64 {
        debug_assert!(self.available <= self.total, "{self:?}");
        self.total - self.available
    }
}

/// The status of a reservation.
///
/// `HELD --commit--> COMMITTED --cancel--> CANCELLED`, `HELD --release--> RELEASED`, `HELD --TTL--> EXPIRED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(title = "ReservationStatus")]
pub enum Status {
    /// Units are set aside until `expires_at`.
    Held,
    /// Final, unless cancelled.
    Committed,
    /// Given back by its holder.
    Released,
    /// Given back at the end of its TTL.
    Expired,
    /// Given back after it was committed.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Held, Self::Committed, Self::Released, Self::Expired, Self::Cancelled];

    /// The name in the API, in events and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Committed => "COMMITTED",
            Self::Released => "RELEASED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Parses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether units are set aside for a reservation in this status.
    pub fn takes_stock(self) -> bool {
        matches!(self, Self::Held | Self::Committed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reservation of one or more items under one token. Cheap to clone, because its parts are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The id, and the capability to act on the reservation.
    pub token: Token,
    /// The items: merged, in id order, never empty.
    pub items: Items,
    /// The status as written. Readers see a HELD reservation that is overdue as EXPIRED: see [`Self::as_of`].
    pub status: Status,
    /// The customer on whose behalf it was made.
    pub holder: Option<Holder>,
    /// The data that the client attached.
    pub metadata: Option<Arc<Metadata>>,
    /// The idempotency key of the request that made it.
    pub key: IdempotencyKey,
    /// The fingerprint of that request.
    pub fingerprint: Fingerprint,
    /// The version: 1 at creation, incremented by each change.
    pub version: u64,
    /// The instant of its creation.
    pub created_at: Timestamp,
    /// The instant at which the hold ends. It is kept afterwards as a record.
    pub expires_at: Timestamp,
    /// The instant of its last change.
    pub updated_at: Timestamp,
}

impl Reservation {
    /// Whether this is a hold that has expired: at `expires_at` and later.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.status == Status::Held && self.expires_at <= now
    }

    /// The reservation as a reader sees it at `now`: an overdue hold is EXPIRED, whether or not its expiry is written
    /// yet.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> Self {
        if self.is_overdue(now) {
            self.status = Status::Expired;
        }
        self
    }
}
