//! Starts logs and spans as the configuration says.

use crate::{config::Config, telemetry};

/// Telemetry cannot start as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not valid.
    #[error("BESPEAK_LOG={filter:?} is not valid: {reason}")]
    Logs {
        /// The configured filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The span exporter cannot be made, or is not in this build.
    #[error("spans cannot be exported to BESPEAK_OTLP_ENDPOINT: {0}")]
    Spans(String),
}

/// Starts logs and, if configured, the export of spans. It must run on the runtime that serves, once in a process.
///
/// Metrics are not started: a process whose metrics are never read need not collect them.
///
/// # Errors
/// A setting is not valid, or spans are configured in a build that cannot export them.
pub fn start_telemetry(config: &Config) -> Result<(), TelemetryError> {
    telemetry::start_logs(&config.log, config.log_format)
        .map_err(|reason| TelemetryError::Logs { filter: config.log.clone(), reason })?;
    telemetry::start_spans(config.otlp.as_ref()).map_err(TelemetryError::Spans)
}
