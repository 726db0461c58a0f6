//! The rules of reservation: a pure, synchronous state machine over a slice of the books.
//!
//! Never: I/O, a clock, randomness. Time and ids come in as arguments; what changed goes out as data.
//! Next: [`apply()`] for the rules, [`WorkingSet`] for what they work on, `store/batch.rs` for who calls them.

mod apply;
mod command;
mod event;
mod limits;
mod metadata;
mod names;
mod outcome;
mod records;
mod trace;
mod units;
mod working_set;

pub use apply::{apply, replay};
pub use command::{Command, Define, Extend, Items, Reserve, ReserveDraft, Traced};
pub use event::{Event, EventKey, EventType, Payload};
pub use limits::{Limits, Violation};
pub use metadata::{Fingerprint, Metadata};
pub use names::{Holder, IdempotencyKey, ResourceId, Token};
pub use outcome::{Accepted, Change, Outcome, Refusal, ResourceChange};
pub use records::{Fulfilment, Item, Reservation, Resource, Status};
pub use trace::{TraceContext, TraceId, Traceparent};
pub use units::{Quantity, TOTAL_MAX, Ttl};
pub use working_set::{Changes, ResourceUpdate, Transition, WorkingSet};

/// A point in time, in UTC, microsecond precision. Always the database's, never a caller's.
pub type Timestamp = jiff::Timestamp;

#[cfg(test)]
mod tests;
