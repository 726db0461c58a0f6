//! Options of logs and of the export of spans.

use crate::secret_url::SecretUrl;

/// The collector of spans, and the share of traces that is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpOptions {
    /// The base URL of the collector; it may contain a password.
    pub endpoint: SecretUrl,
    /// The share of the traces that begin in this process that is exported: 0 to 1.
    pub sample_ratio: f64,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}
