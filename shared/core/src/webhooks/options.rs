//! What the configuration says about webhooks.

use super::Configured;

/// What the configuration says about webhooks: at most one endpoint, and which addresses are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The endpoint that the configuration names, if any.
    pub endpoint: Option<Configured>,
    /// Whether deliveries to private addresses are allowed.
    pub allow_private: bool,
}
