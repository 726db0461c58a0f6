//! The limits of the HTTP API. The type belongs to this crate because the settings do; it configures the crate
//! `bespeak-http`.

use std::{sync::Arc, time::Duration};

/// The limits of the HTTP API, and its base path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest import, in bytes.
    pub import_bytes_max: usize,
    /// The time that a client may take to send a request.
    pub request_timeout: Duration,
    /// The prefix that is stripped from request paths, without a slash at its end: the base path of a gateway or the
    /// mount point of a proxy. Empty for none.
    pub base_path: Arc<str>,
}
