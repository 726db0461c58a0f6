//! The reply to a trigger's command: a result, a refusal that the customer may see, or a failure for the operator.

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
    /// The rules refuse the command. Repeating it gives the same refusal until something else changes.
    Refused(R),
    /// The command failed. The customer may retry it, and the operator must know.
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
    /// The holder made too many requests; the command did not reach the engine.
    RateLimited(Limited),
}

/// A reservation, and whether an earlier request with the same idempotency key made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The reservation as it is now.
    pub reservation: Reservation,
    /// Whether this is the reply to a retry.
    pub replayed: bool,
}

/// A resource, and what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// The resource as it is now.
    pub resource: Resource,
    /// The effect of the command.
    pub change: ResourceChange,
}

/// Turns the outcome of a command into a reply about a reservation.
pub(super) fn booked(outcome: Result<Outcome, DispatchError>) -> Reply<Booked> {
    match outcome? {
        Ok(Accepted::Reservation { reservation, change }) => {
            Ok(Booked { reservation, replayed: change == Change::Replayed })
        }
        Ok(Accepted::Resource { resource, .. }) => Err(mixed_up(&resource.id).into()),
        Err(refusal) => Err(Rejected::Refused(refusal)),
    }
}

/// Turns the outcome of a command into a reply about a resource.
pub(super) fn defined(outcome: Result<Outcome, DispatchError>) -> Reply<Defined> {
    match outcome? {
        Ok(Accepted::Resource { resource, change }) => Ok(Defined { resource, change }),
        Ok(Accepted::Reservation { reservation, .. }) => Err(mixed_up(&reservation.token).into()),
        Err(refusal) => Err(Rejected::Refused(refusal)),
    }
}

/// The error of an outcome of the wrong kind. The engine returns an outcome of the command's own kind, so another
/// kind belongs to the command of another caller.
fn mixed_up(about: &dyn std::fmt::Display) -> StoreError {
    debug_assert!(false, "the outcome about {about} reached another caller");
    StoreError::Corrupt { what: format!("the outcome about {about} reached another caller") }
}
