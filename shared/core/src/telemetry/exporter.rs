//! Where spans go: to whom OpenTelemetry's protocol is spoken (`otlp.rs`), or nowhere.

use std::time::Duration;

use super::OtlpOptions;
#[cfg(feature = "otlp")]
use super::otlp;
#[cfg(feature = "otlp")]
pub(super) use super::otlp::{Open, exporter};

#[cfg(not(feature = "otlp"))]
pub(super) use nowhere::{Open, exporter};

/// Starts the export of spans, where the configuration names a collector. Must run on the runtime that will serve.
///
/// # Errors
/// This build cannot export spans, or the exporter cannot be made.
pub fn start_spans(config: Option<&OtlpOptions>) -> Result<(), String> {
    match config {
        None => Ok(()),
        #[cfg(feature = "otlp")]
        Some(config) => otlp::start(config),
        #[cfg(not(feature = "otlp"))]
        Some(_) => Err("it is not in this build: build it with the feature otlp".to_owned()),
    }
}

/// Sends the spans that have ended, and waits for it, but not for long: whoever may be frozen after an answer calls this
/// before it, with how much time it has for that.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn flush_spans(within: Duration) {
    #[cfg(feature = "otlp")]
    otlp::flush(within).await;
    #[cfg(not(feature = "otlp"))]
    let _ = within;
}

/// Sends the spans that have ended, and ends the export.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn stop_spans() {
    #[cfg(feature = "otlp")]
    otlp::stop().await;
}

/// In a build without OpenTelemetry nothing of it is left.
#[cfg(not(feature = "otlp"))]
mod nowhere {
    use crate::{telemetry::finished_span::FinishedSpan, trace::TraceContext};

    /// There is none.
    #[derive(Debug)]
    pub(in crate::telemetry) enum Exporter {}

    /// There is none.
    #[derive(Debug)]
    pub(in crate::telemetry) enum Open {}

    pub(in crate::telemetry) fn exporter() -> Option<&'static Exporter> {
        None
    }

    impl Exporter {
        pub(in crate::telemetry) fn begin(
            &self,
            _: Option<TraceContext>,
            _: &str,
            _: &str,
            _: &str,
        ) -> Option<Open> {
            match *self {}
        }

        pub(in crate::telemetry) fn export(&self, _: &FinishedSpan<'_>) {
            match *self {}
        }
    }

    impl Open {
        pub(in crate::telemetry) fn context(&self) -> TraceContext {
            match *self {}
        }

        pub(in crate::telemetry) fn end(self, _: u16) {
            match self {}
        }
    }
}
