//! The spans of a request: HTTP, the transaction, the publication of its events, and their application by consumers.
//!
//! All spans of a request belong to one trace, whose context travels with the command and its events. If spans are
//! not exported (`otlp.rs`), or the trace is not sampled, none is built. Never: a token, which is a capability, in an
//! attribute.

use std::time::SystemTime;

pub use super::trace_origin::TraceOrigin;
use super::{
    exporter,
    finished_span::{FinishedSpan, SpanRole},
};
use crate::{
    engine::Traced,
    envelope::{Incoming, OutboxEvent},
    trace::{self, TraceContext},
};

/// The start of a span; `None` if spans are not exported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanStart(Option<SystemTime>);

/// The present time, if spans are exported.
pub(crate) fn now() -> SpanStart {
    SpanStart(exporter::exporter().map(|_| SystemTime::now()))
}

/// The span of a request in flight.
#[derive(Debug)]
pub struct RequestSpan {
    context: TraceContext,
    open: Option<exporter::Open>,
}

impl RequestSpan {
    /// Begins a span in the context that came with the request, or in a new one.
    pub fn begin(origin: TraceOrigin, method: &str, route: &str, request_id: &str) -> Self {
        let open =
            exporter::exporter().and_then(|exporter| exporter.begin(origin, method, route, request_id));
        let given = origin.parent();
        let own = open.as_ref().map(exporter::Open::context);
        // A process that records nothing passes on the context that it received, so that no trace refers to a missing
        // span.
        Self { context: own.or(given).unwrap_or_else(trace::draw), open }
    }

    /// The context that the request's commands carry.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Ends the span with the status of the response.
    pub fn end(self, status: u16) {
        if let Some(open) = self.open {
            open.end(status);
        }
    }
}

/// Records the end of a transaction: one span for each request that has a command in it.
pub(crate) fn transaction(commands: &[Traced], SpanStart(began): SpanStart, committed: bool) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    let batch = i64::try_from(commands.len()).unwrap_or(i64::MAX);
    for Traced { command, trace } in commands {
        let Some(parent) = trace.filter(TraceContext::is_sampled) else { continue };
        exporter.export(&FinishedSpan {
            name: "transaction",
            kind: SpanRole::Internal,
            parent,
            began,
            failed: !committed,
            texts: &[("bespeak.command", command.name())],
            numbers: &[("bespeak.batch.commands", batch)],
        });
    }
}

/// Records the publication of events, each with whether the event log accepted it.
pub(crate) fn published<'a>(
    events: impl Iterator<Item = (&'a OutboxEvent, bool)>,
    SpanStart(began): SpanStart,
) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    for (event, is_published) in events {
        let Some(parent) = event.trace.filter(TraceContext::is_sampled) else { continue };
        let event_id = event.event_id.to_string();
        exporter.export(&FinishedSpan {
            name: "publish",
            kind: SpanRole::Producer,
            parent,
            began,
            failed: !is_published,
            texts: &[("cloudevents.event_id", &event_id), ("cloudevents.event_type", &event.kind)],
            numbers: &[],
        });
    }
}

/// Records that a consumer applied an event.
pub(crate) fn applied(event: &Incoming, consumer: &str, SpanStart(began): SpanStart) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    let Some(parent) = event.trace.filter(TraceContext::is_sampled) else { return };
    let event_id = event.event_id.to_string();
    exporter.export(&FinishedSpan {
        name: "apply",
        kind: SpanRole::Consumer,
        parent,
        began,
        failed: false,
        texts: &[
            ("cloudevents.event_id", &event_id),
            ("cloudevents.event_type", event.kind.as_str()),
            ("messaging.consumer.group.name", consumer),
        ],
        numbers: &[],
    });
}
