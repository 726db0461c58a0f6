//! What processes share through Redis, and how long they wait for it.

use std::time::Duration;

use super::Rate;
use crate::secret_url::SecretUrl;

/// What processes share through Redis, and how patiently it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinationOptions {
    /// The first of the nodes, if there is any.
    pub redis_url: Option<SecretUrl>,
    /// For how long a call of it is waited for.
    pub timeout: Duration,
    /// What keys and channels begin with; it has a part that is the database's own.
    pub scope: String,
    /// How often a holder may ask for units.
    pub rate_limit: Option<Rate>,
}
