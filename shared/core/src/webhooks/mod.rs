//! Webhook endpoints and deliveries as records: ids, filters, secrets, forbidden addresses, and how an endpoint
//! changes. Signatures follow Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! Never: I/O, a clock, SQL, the content of an event. Next: `records.rs` for the records, `guard.rs` for the
//! addresses that deliveries never go to; [`crate::delivery`] sends the deliveries.

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
    Configured, Delivery, DeliveryStatus, Disabled, Endpoint, EndpointChange, EndpointOrigin, NewEndpoint,
    PreviousSecret, Receiver, WebhookRefusal,
};
pub use secret::Secret;

#[cfg(test)]
mod tests;
