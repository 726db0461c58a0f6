//! The options of coordination through Redis.

use std::time::Duration;

use super::Rate;
use crate::secret_url::SecretUrl;

/// The options of coordination through Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinationOptions {
    /// The node: the first of the configured nodes, if there is any.
    pub redis_url: Option<SecretUrl>,
    /// The time-out of a call.
    pub timeout: Duration,
    /// The prefix of keys and channels. It contains a part that is specific to the database.
    pub scope: String,
    /// The rate limit per holder.
    pub rate_limit: Option<Rate>,
}
