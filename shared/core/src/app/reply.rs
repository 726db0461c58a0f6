//! What a trigger gets for a command: a result, a refusal that the customer may see, or a failure for the operator.

use crate::{
    coordination::Limited,
    dispatch::DispatchError,
    engine::{Accepted, Change, Outcome, Refusal, Reservation, Resource, ResourceChange},
    store::StoreError,
};

/// The reply to a command.
pub type Reply<T, R = Refusal> = Result<T, Rejected<R>>;

/// Why a command had no effect.
#[derive(Clone, Debug)]
pub enum Rejected<R = Refusal> {
    /// The rules refuse it. Repeating the command gives the same refusal until something else changes.
    Refused(R),
    /// It failed; the customer may retry, and the operator must know.
    Failed(DispatchError),
}

impl<R, E: Into<DispatchError>> From<E> for Rejected<R> {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

/// Why units were not held.
#[derive(Clone, Debug)]
pub enum ReserveRefusal {
    /// The engine refuses.
    Engine(Refusal),
    /// The holder made too many requests; the engine was not reached.
    RateLimited(Limited),
}

/// A reservation, and whether an earlier request under the same key made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The reservation as it is now.
    pub reservation: Reservation,
    /// Whether this is the answer to a retry.
    pub replayed: bool,
}

/// A resource, and what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// The resource as it is now.
    pub resource: Resource,
    /// What was done.
    pub change: ResourceChange,
}

/// The reply about a reservation.
pub(super) fn booked(outcome: Result<Outcome, DispatchError>) -> Reply<Booked> {
    match outcome? {
        Ok(Accepted::Reservation { reservation, change }) => {
            Ok(Booked { reservation, replayed: change == Change::Replayed })
        }
        Ok(Accepted::Resource { resource, .. }) => Err(mixed_up(&resource.id).into()),
        Err(refusal) => Err(Rejected::Refused(refusal)),
    }
}

/// The reply about a resource.
pub(super) fn defined(outcome: Result<Outcome, DispatchError>) -> Reply<Defined> {
    match outcome? {
        Ok(Accepted::Resource { resource, change }) => Ok(Defined { resource, change }),
        Ok(Accepted::Reservation { reservation, .. }) => Err(mixed_up(&reservation.token).into()),
        Err(refusal) => Err(Rejected::Refused(refusal)),
    }
}

/// The engine answers every command in kind, so anything else is the outcome of another caller's command.
fn mixed_up(about: &dyn std::fmt::Display) -> StoreError {
    debug_assert!(false, "the outcome about {about} reached another caller");
    StoreError::Corrupt { what: format!("the outcome about {about} reached another caller") }
}
