//! The outcome of a command. A refusal is a value that a customer may see; an error, which only an operator sees, is
//! not an outcome.

use super::{Reservation, Resource, ResourceId, Status, Timestamp};

/// The outcome of a command.
pub type Outcome = Result<Accepted, Refusal>;

/// The command took effect, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The reservation after the command.
    Reservation {
        /// The reservation as it is now; an overdue hold is shown as EXPIRED.
        reservation: Reservation,
        /// Whether this command changed it.
        change: Change,
    },
    /// The resource after the command.
    Resource {
        /// The resource as it is now.
        resource: Resource,
        /// Whether this command changed it.
        change: ResourceChange,
    },
}

impl Accepted {
    /// The resources that may have more units since this command or, if it changed nothing, since an earlier attempt
    /// at it whose COMMIT was not answered.
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
    /// The reservation was in this state already; nothing was written.
    Unchanged,
    /// An earlier request with the same idempotency key made the reservation; nothing was written.
    Replayed,
}

/// The effect of a define command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceChange {
    /// The resource is new.
    Created,
    /// The total or the fulfilment changed.
    Changed {
        /// The total before the change.
        previous_total: u64,
    },
    /// The resource was in this state already; nothing was written.
    Unchanged,
}

/// The command took no effect, and nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The resource does not exist.
    ResourceNotFound {
        /// The first missing resource, by id.
        resource_id: ResourceId,
    },
    /// Too few units are available.
    OutOfStock {
        /// The first resource with too few units, by id.
        resource_id: ResourceId,
        /// The number of units that the command needs.
        requested: u64,
        /// The number of units that are available, with overdue holds counted as given back.
        available: u64,
        /// When the next hold of that resource ends, unless it is committed before: a hint that the store fills in.
        next_release_at: Option<Timestamp>,
    },
    /// The units exist, but behind more overdue holds than one transaction may expire; the expiry timer works on
    /// them. Only the store can detect this. The client may retry.
    Backlogged {
        /// The id of the resource.
        resource_id: ResourceId,
    },
    /// The idempotency key belongs to a reservation with a different request.
    KeyReused,
    /// The idempotency key belongs to a reservation of the same request whose units were given back: its hold was
    /// released or expired, or it was cancelled. A new reservation needs a new key.
    ReservationEnded {
        /// The reservation as it is now: RELEASED, EXPIRED or CANCELLED. In a box, because it is many times larger
        /// than any other refusal.
        reservation: Box<Reservation>,
    },
    /// The new total is below what is held and committed.
    StockInUse {
        /// The id of the resource.
        resource_id: ResourceId,
        /// The total that the command would set.
        requested_total: u64,
        /// Units held or committed; overdue holds are not counted.
        in_use: u64,
    },
    /// The reservation does not exist.
    ReservationNotFound,
    /// The hold has expired.
    HoldExpired {
        /// The instant at which it expired.
        expired_at: Timestamp,
    },
    /// The reservation is committed.
    AlreadyCommitted,
    /// The hold was given back by its holder.
    AlreadyReleased,
    /// The reservation was cancelled.
    AlreadyCancelled,
    /// Only a committed reservation can be cancelled.
    NotCommitted {
        /// The status of the reservation.
        status: Status,
    },
    /// The hold has not expired yet.
    NotDue {
        /// The instant at which it will expire.
        expires_at: Timestamp,
    },
}

impl Refusal {
    /// A stable name: the slug of the problem type and the label of metrics.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::ResourceNotFound { .. } => "resource-not-found",
            Self::OutOfStock { .. } => "out-of-stock",
            Self::Backlogged { .. } => "expiry-backlog",
            Self::KeyReused => "idempotency-key-reused",
            Self::ReservationEnded { .. } => "reservation-ended",
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

    /// The present status of the reservation that the command names, by its token or its key, if its state is the
    /// reason of the refusal.
    pub fn reservation_status(&self) -> Option<Status> {
        match self {
            Self::ReservationEnded { reservation } => Some(reservation.status),
            Self::HoldExpired { .. } => Some(Status::Expired),
            Self::AlreadyCommitted => Some(Status::Committed),
            Self::AlreadyReleased => Some(Status::Released),
            Self::AlreadyCancelled => Some(Status::Cancelled),
            Self::NotCommitted { status } => Some(*status),
            Self::NotDue { .. } => Some(Status::Held),
            Self::ResourceNotFound { .. }
            | Self::OutOfStock { .. }
            | Self::Backlogged { .. }
            | Self::KeyReused
            | Self::StockInUse { .. }
            | Self::ReservationNotFound => None,
        }
    }
}
