//! What became of a command. A refusal is a value: what a customer may be told, not what an operator must know.

use super::{Reservation, Resource, ResourceId, Status, Timestamp};

/// What became of a command.
pub type Outcome = Result<Accepted, Refusal>;

/// The command took effect, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A reservation, after the command.
    Reservation {
        /// As it is now; an overdue hold is shown as EXPIRED.
        reservation: Reservation,
        /// Whether this command did it.
        change: Change,
    },
    /// A resource, after the command.
    Resource {
        /// As it is now.
        resource: Resource,
        /// Whether this command did it.
        change: ResourceChange,
    },
}

impl Accepted {
    /// The resources of which units may be available since this command or, where it changed nothing, since an earlier
    /// attempt at it whose COMMIT was not answered.
    pub fn given_back(&self) -> Vec<&ResourceId> {
        match self {
            Self::Reservation { reservation, .. } if !reservation.status.takes_stock() => {
                reservation.items.iter().map(|item| &item.resource_id).collect()
            }
            Self::Reservation { .. } => Vec::new(),
            Self::Resource { resource, .. } => vec![&resource.id],
        }
    }
}

/// Whether a command changed its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This command changed it.
    Changed,
    /// It was so already; nothing was written.
    Unchanged,
    /// An earlier request under the same idempotency key made it; nothing was written.
    Replayed,
}

/// What a define did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceChange {
    /// The resource is new.
    Created,
    /// Its total or fulfilment is another now.
    Changed {
        /// The total before.
        previous_total: u64,
    },
    /// It was so already; nothing was written.
    Unchanged,
}

/// The command took no effect, and nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such resource.
    ResourceNotFound {
        /// The first missing one, by id.
        resource_id: ResourceId,
    },
    /// Too few units are available.
    OutOfStock {
        /// The first short resource, by id.
        resource_id: ResourceId,
        /// How many units were asked for.
        requested: u64,
        /// How many units are available, overdue holds counted as given back.
        available: u64,
        /// When the next hold of that resource ends, unless it is committed before: a hint, filled in by the store.
        next_release_at: Option<Timestamp>,
    },
    /// The units are there, but behind more overdue holds than one transaction may expire; the timer is at work on them.
    /// Told by the store, which alone knows; a client may come again.
    Backlogged {
        /// The resource.
        resource_id: ResourceId,
    },
    /// The idempotency key belongs to a reservation that asked for something else.
    KeyReused,
    /// A total below what is held and committed.
    StockInUse {
        /// The resource.
        resource_id: ResourceId,
        /// The total that was asked for.
        requested_total: u64,
        /// Units held or committed, overdue holds not counted.
        in_use: u64,
    },
    /// There is no such reservation.
    ReservationNotFound,
    /// The hold's time was up.
    HoldExpired {
        /// Since when.
        expired_at: Timestamp,
    },
    /// The reservation was committed before.
    AlreadyCommitted,
    /// The hold was given back before.
    AlreadyReleased,
    /// The reservation was cancelled before.
    AlreadyCancelled,
    /// Only a committed reservation can be cancelled.
    NotCommitted {
        /// What it is instead.
        status: Status,
    },
    /// The hold's time is not up yet.
    NotDue {
        /// When it will be.
        expires_at: Timestamp,
    },
}

impl Refusal {
    /// A stable name: the problem type's slug and the metrics' label.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::ResourceNotFound { .. } => "resource-not-found",
            Self::OutOfStock { .. } => "out-of-stock",
            Self::Backlogged { .. } => "expiry-backlog",
            Self::KeyReused => "idempotency-key-reused",
            Self::StockInUse { .. } => "stock-in-use",
            Self::ReservationNotFound => "reservation-not-found",
            Self::HoldExpired { .. } => "hold-expired",
            Self::AlreadyCommitted => "already-committed",
            Self::AlreadyReleased => "already-released",
            Self::AlreadyCancelled => "already-cancelled",
            Self::NotCommitted { .. } => "not-committed",
            Self::NotDue { .. } => "not-due",
        }
    }
}
