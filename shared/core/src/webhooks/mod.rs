//! Webhook endpoints and deliveries as records: ids, filters, secrets, forbidden addresses, and how an endpoint
//! changes. Signatures follow Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! Never: I/O, a clock, SQL, the content of an event. Next: `records.rs` for the records, `change.rs` for
//! how endpoints change, `health.rs` for the circuit breaker, `policy.rs` and `guard.rs` for where deliveries may go;
//! [`crate::delivery`] sends the deliveries.

mod change;
mod filter;
mod guard;
mod headers;
mod health;
mod names;
mod options;
mod policy;
mod records;
mod secret;

pub(crate) use change::DELETED;
pub use change::{EndpointChange, EndpointUpdate, Rotation};
pub use filter::EventFilter;
pub use guard::{Forbidden, forbidden};
pub use headers::CustomHeaders;
pub use health::{
    Circuit, EndpointHealth, FAILURES_TO_OPEN, GONE_FOR, GONE_TO_DISABLE, Observation, PAUSE_MAX, Sign,
};
pub use names::{DeliveryId, EndpointId, EndpointUrl};
pub use options::{WebhookLimits, WebhookOptions};
pub use policy::{AllowHttp, DeliveryPolicy, Network};
pub use records::{
    Configured, Delivery, DeliveryStatus, Disabled, Endpoint, EndpointOrigin, NewEndpoint,
    PREVIOUS_SECRETS_MAX, PreviousSecret, Receiver, RequestDigest, WebhookRefusal,
};
pub use secret::Secret;

#[cfg(test)]
mod tests;
