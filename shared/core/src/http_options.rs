//! What the HTTP API accepts. The type stands here because the settings do; `shared/http` is the crate that it configures.

use std::{sync::Arc, time::Duration};

/// What HTTP accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest import, in bytes.
    pub import_bytes_max: usize,
    /// How long a client may take to send a request.
    pub request_timeout: Duration,
    /// What paths begin with in front of the API's own, without a slash at its end: a base-path mapping, or a mount of a
    /// proxy. It is stripped. Empty for none.
    pub base_path: Arc<str>,
}
