//! Starts the log of the process.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{options::LogFormat, request_ids::WithIds};

/// Starts the log, which is written to standard error. `filter` has the notation of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// The filter is invalid; the message says why.
pub fn start_logs(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let registry = tracing_subscriber::registry().with(filter);
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    let with_ids = tracing_subscriber::fmt::format().with_ansi(ansi);
    let started = match format {
        LogFormat::Text => {
            registry.with(lines.event_format(WithIds { format: with_ids, shape: format })).try_init()
        }
        LogFormat::Json => {
            let with_ids = WithIds { format: with_ids.json().flatten_event(true), shape: format };
            registry.with(lines.json().event_format(with_ids)).try_init()
        }
    };
    started.map_err(|error| error.to_string())
}
