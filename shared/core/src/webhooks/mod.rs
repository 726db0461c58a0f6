//! Webhooks: events that are sent to whoever asked for them, signed as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! A delivery is made at least once, in no particular order: a receiver drops what it has seen by `webhook-id`, and what is
//! stale by the event's version. Never: what an event says (who enqueues it decides that), SQL. Next: `records.rs` for what
//! is kept, `deliver.rs` for who sends and when, `send.rs` for how, `guard.rs` for where never to.

mod filter;
mod guard;
mod names;
mod options;
mod records;
mod secret;

pub use filter::EventFilter;
pub use guard::{Forbidden, forbidden};
pub use names::{DeliveryId, EndpointId, EndpointUrl};
pub use options::WebhookOptions;
pub(crate) use records::DELETED;
pub use records::{
    Configured, Delivery, DeliveryStatus, Disabled, Endpoint, EndpointChange, NewEndpoint, Origin,
    PreviousSecret, Receiver, WebhookRefusal,
};
pub use secret::Secret;

#[cfg(test)]
mod tests;
