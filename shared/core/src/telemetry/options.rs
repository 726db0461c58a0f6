//! Where spans are exported to.

use crate::secret_url::SecretUrl;

/// Where spans are exported to, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpOptions {
    /// The collector's base URL; it may hold a password.
    pub endpoint: SecretUrl,
    /// Which part of the traces that begin here is exported: 0 to 1.
    pub sample_ratio: f64,
}
