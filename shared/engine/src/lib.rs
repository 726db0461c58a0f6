//! The rules of reservation: a pure, synchronous state machine over a slice of the books.
//!
//! Never: I/O, a clock, randomness. Time and ids come in as arguments; changes go out as data. Next: [`apply()`] for
//! the rules, [`WorkingSet`] for the records that they work on, and `store/batch/` of the crate `bespeak` for the
//! caller.

mod apply;
mod canonical;
mod command;
mod cover;
mod event;
mod items;
mod limits;
mod metadata;
mod movement;
mod names;
mod number;
mod outcome;
mod records;
mod trace;
mod units;
mod violation;
mod working_set;

pub use apply::{apply, replay};
pub use command::{Command, Define, Extend, Reserve, ReserveDraft, Traced};
pub use event::{Event, EventKey, EventType, Payload, ReportedStock};
pub use items::{Item, Items};
pub use limits::Limits;
pub use metadata::{Fingerprint, Metadata};
pub use names::{Holder, IdempotencyKey, ResourceId, Token};
pub use number::whole_number;
pub use outcome::{Accepted, Change, Outcome, Refusal, ResourceChange};
pub use records::{Fulfilment, Reservation, Resource, Status};
pub use trace::{TraceContext, TraceId, Traceparent};
pub use units::{Quantity, TOTAL_MAX, Ttl};
pub use violation::Violation;
pub use working_set::{Changes, ResourceUpdate, Transition, WorkingSet};

/// An instant in UTC with microsecond precision. It is always the database's time, never a caller's.
pub type Timestamp = jiff::Timestamp;

#[cfg(test)]
mod tests;
