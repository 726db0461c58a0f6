//! What the books hold: resources and reservations.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Fingerprint, Holder, IdempotencyKey, Items, Metadata, Quantity, ResourceId, Timestamp, Token,
    limits::Violation,
};

/// What a commit of a resource sets off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Fulfilment {
    /// Nothing.
    #[default]
    None,
    /// A SmartKey is issued for the reservation.
    SmartKey,
}

impl Fulfilment {
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

/// Something countable. `available + held + committed = total` at every instant (I1), where `held` counts holds until
/// their expiry was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// How many units there are.
    pub total: u64,
    /// How many of them are neither held nor committed.
    pub available: u64,
    /// 1 at creation, one more with each command that moved its units or changed it.
    pub version: u64,
    /// What a commit sets off.
    pub fulfilment: Fulfilment,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Resource {
    /// Units held or committed.
    pub fn in_use(&self) -> u64 {
        debug_assert!(self.available <= self.total, "{self:?}");
        self.total - self.available
    }
}

/// A resource and how many units of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The resource.
    pub resource_id: ResourceId,
    /// How many units.
    pub quantity: Quantity,
}

/// Where a reservation is in its life.
///
/// `HELD --commit--> COMMITTED --cancel--> CANCELLED`, `HELD --release--> RELEASED`, `HELD --TTL--> EXPIRED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Units are set aside until `expires_at`.
    Held,
    /// Final, unless cancelled.
    Committed,
    /// Given back by its holder.
    Released,
    /// Given back by itself, at the end of its TTL.
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

/// A reservation of one or more items, under one token. Cheap to clone: its parts are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its id, and the capability to act on it.
    pub token: Token,
    /// What it takes: merged, in id order, never empty.
    pub items: Items,
    /// Where it is in its life, as written. A HELD that is overdue is EXPIRED to its readers: see [`Self::as_of`].
    pub status: Status,
    /// On whose behalf it was made.
    pub holder: Option<Holder>,
    /// What the client attached.
    pub metadata: Option<Arc<Metadata>>,
    /// The key that it was made under.
    pub key: IdempotencyKey,
    /// What was asked for under that key.
    pub fingerprint: Fingerprint,
    /// 1 at creation, one more with each change.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the hold ends. Kept after that as a record.
    pub expires_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Reservation {
    /// Whether this is a hold whose time is up: from `expires_at` on, that instant included.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.status == Status::Held && self.expires_at <= now
    }

    /// The reservation as a reader sees it at `now`: an overdue hold is EXPIRED, whether or not that was written yet.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> Self {
        if self.is_overdue(now) {
            self.status = Status::Expired;
        }
        self
    }
}
