//! Delivers webhooks: claims deliveries that are due, attempts each over HTTP, and records the result.
//!
//! A delivery is attempted at least once, in no particular order: a receiver drops duplicates by `webhook-id` and stale events
//! by their version. `dispatcher.rs` decides who sends what and when, `sender.rs` makes one attempt, `schedule.rs` has the
//! retry delays, `resolver.rs` keeps attempts away from private addresses. Endpoints and deliveries as records are in
//! [`crate::webhooks`]. Never: the content of an event, SQL.

mod dispatcher;
mod resolver;
mod schedule;
mod sender;

pub use dispatcher::{Dispatcher, DispatcherOptions, Step};
pub use schedule::{ATTEMPTS_MAX, RETRY_AFTER_MAX, retry_after};
pub use sender::{Message, Received, Sender, SenderOptions};

#[cfg(test)]
mod tests;
