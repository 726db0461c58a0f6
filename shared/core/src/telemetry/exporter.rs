//! Starts and stops the export of spans: by OpenTelemetry's protocol (`otlp.rs`), or not at all in a build without
//! it.

use std::time::Duration;

use super::OtlpOptions;
#[cfg(feature = "otlp")]
use super::otlp;
#[cfg(feature = "otlp")]
pub(super) use super::otlp::{Open, exporter};

#[cfg(not(feature = "otlp"))]
pub(super) use nowhere::{Open, exporter};

/// Starts the export of spans, if the configuration names a collector. Must be called on the runtime that will serve.
///
/// # Errors
/// This build cannot export spans, or the exporter cannot be made.
pub fn start_spans(config: Option<&OtlpOptions>) -> Result<(), String> {
    match config {
        None => Ok(()),
        #[cfg(feature = "otlp")]
        Some(config) => otlp::start(config),
        #[cfg(not(feature = "otlp"))]
        Some(_) => Err("this build has no span export: build it with the feature otlp".to_owned()),
    }
}

/// Exports the spans that have ended, and waits for that no longer than `within`. A process that may be frozen after
/// its response calls this before it responds.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn flush_spans(within: Duration) {
    #[cfg(feature = "otlp")]
    otlp::flush(within).await;
    #[cfg(not(feature = "otlp"))]
    let _ = within;
}

/// Exports the spans that have ended, and stops the export.
#[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "as with an exporter"))]
pub async fn stop_spans() {
    #[cfg(feature = "otlp")]
    otlp::stop().await;
}

/// The exporter of a build without OpenTelemetry: a type without values.
#[cfg(not(feature = "otlp"))]
mod nowhere {
    use crate::{
        telemetry::{finished_span::FinishedSpan, trace_origin::TraceOrigin},
        trace::TraceContext,
    };

    /// There is no exporter in this build.
    #[derive(Debug)]
    pub(in crate::telemetry) enum Exporter {}

    /// There is none.
    #[derive(Debug)]
    pub(in crate::telemetry) enum Open {}

    pub(in crate::telemetry) fn exporter() -> Option<&'static Exporter> {
        None
    }

    impl Exporter {
        pub(in crate::telemetry) fn begin(&self, _: TraceOrigin, _: &str, _: &str, _: &str) -> Option<Open> {
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
