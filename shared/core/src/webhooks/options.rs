//! The options of webhooks.

use std::time::Duration;

use super::{Configured, DeliveryPolicy};

/// The options of webhooks: at most one endpoint, which deliveries this process makes and where
/// to, and the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The endpoint that the configuration names, if any.
    pub endpoint: Option<Configured>,
    /// Whether this process delivers webhooks; if not, it neither sends anything nor stores the endpoint.
    pub deliver: bool,
    /// Where deliveries may go.
    pub policy: DeliveryPolicy,
    /// The limits of endpoints.
    pub limits: WebhookLimits,
}

/// The limits of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookLimits {
    /// The most endpoints.
    pub endpoints_max: u32,
    /// The most pending deliveries of one endpoint. Further events are enqueued as failed, and can be redelivered.
    pub pending_max: u32,
    /// The time without any delivery after which a failed attempt disables an endpoint.
    pub disable_after: Duration,
}

impl Default for WebhookLimits {
    fn default() -> Self {
        Self { endpoints_max: 100, pending_max: 100_000, disable_after: Duration::from_secs(120 * 60 * 60) }
    }
}
