//! The options of webhooks.

use super::Configured;

/// The options of webhooks: at most one endpoint, and which deliveries this process makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The endpoint that the configuration names, if any.
    pub endpoint: Option<Configured>,
    /// Whether this process delivers webhooks; if not, it neither sends anything nor stores the endpoint.
    pub deliver: bool,
    /// Whether deliveries to private addresses are allowed.
    pub allow_private: bool,
}
