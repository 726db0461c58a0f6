//! The options of webhooks.

use super::Configured;

/// The options of webhooks: at most one endpoint, and whether private addresses are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The endpoint that the configuration names, if any.
    pub endpoint: Option<Configured>,
    /// Whether deliveries to private addresses are allowed.
    pub allow_private: bool,
}
