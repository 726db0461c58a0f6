//! Delivers webhooks: claims deliveries that are due, attempts each over HTTP, and records the result.
//!
//! A delivery is attempted at least once, in no particular order: a receiver drops duplicates by `webhook-id` and
//! stale events by their version. `dispatcher.rs` decides who sends what and when, `sender.rs` makes one attempt,
//! `schedule.rs` has the retry delays, `resolver.rs` keeps attempts away from private addresses. Endpoints and
//! deliveries as records are in [`crate::webhooks`]. Never: the content of an event, SQL.

mod attempt;
mod dispatcher;
#[cfg(feature = "webhooks-client")]
mod resolver;
mod schedule;
#[cfg(feature = "webhooks-client")]
mod sender;
#[cfg(not(feature = "webhooks-client"))]
#[path = "sender_absent.rs"]
mod sender;

pub use attempt::{Message, NoWebhooksClient, Received, SenderOptions};
pub use dispatcher::{DeliveryStep, Dispatcher, DispatcherOptions};
pub use schedule::{ATTEMPTS_MAX, RETRY_AFTER_MAX, retry_after};
pub use sender::Sender;

#[cfg(test)]
mod tests;
