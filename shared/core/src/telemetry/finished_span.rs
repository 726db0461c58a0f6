//! A span that has ended, as exporters receive it.

use std::time::SystemTime;

use crate::trace::TraceContext;

/// The relation of a span to its parent, in OpenTelemetry's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanRole {
    Internal,
    Producer,
    Consumer,
}

/// A span that has ended.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "without an exporter no code reads it"))]
pub(super) struct FinishedSpan<'a> {
    pub(super) name: &'static str,
    pub(super) kind: SpanRole,
    pub(super) parent: TraceContext,
    pub(super) began: SystemTime,
    pub(super) failed: bool,
    pub(super) texts: &'a [(&'static str, &'a str)],
    pub(super) numbers: &'a [(&'static str, i64)],
}
