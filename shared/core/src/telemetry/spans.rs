//! The spans of a request's way: HTTP, the transaction, its events' publication, and what consumers make of them.
//!
//! All of a request's spans are one trace; the context that the command and its events bear says which. Where nothing is
//! exported (`otlp.rs`), or the trace is not sampled, nothing is built. Never: a token, which is a capability, in an
//! attribute.

use std::time::SystemTime;

use super::exporter;
use crate::{
    engine::Traced,
    envelope::{Incoming, OutboxEvent},
    trace::{self, TraceContext},
};

/// When something began; nothing where nothing is exported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began(Option<SystemTime>);

/// What a span is to its parent, in OpenTelemetry's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal,
    Producer,
    Consumer,
}

/// A span that has ended.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "nobody reads it where nothing is exported"))]
pub(super) struct Ended<'a> {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) parent: TraceContext,
    pub(super) began: SystemTime,
    pub(super) failed: bool,
    pub(super) texts: &'a [(&'static str, &'a str)],
    pub(super) numbers: &'a [(&'static str, i64)],
}

/// The time, if it will be needed.
pub(crate) fn now() -> Began {
    Began(exporter::exporter().map(|_| SystemTime::now()))
}

/// A request under way.
#[derive(Debug)]
pub struct RequestSpan {
    context: TraceContext,
    open: Option<exporter::Open>,
}

impl RequestSpan {
    /// Begins with the context that came with it, or a new one.
    pub fn begin(given: Option<TraceContext>, method: &str, route: &str, request_id: &str) -> Self {
        let open = exporter::exporter().and_then(|exporter| exporter.begin(given, method, route, request_id));
        let own = open.as_ref().map(exporter::Open::context);
        // Whoever records nothing hands on what came, so that no trace has spans that are nowhere.
        Self { context: own.or(given).unwrap_or_else(trace::draw), open }
    }

    /// What its commands bear.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Ends it.
    pub fn end(self, status: u16) {
        if let Some(open) = self.open {
            open.end(status);
        }
    }
}

/// A batch's transaction has ended: a span for each request that has a command in it.
pub(crate) fn transaction(commands: &[Traced], Began(began): Began, committed: bool) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    let batch = i64::try_from(commands.len()).unwrap_or(i64::MAX);
    for Traced { command, trace } in commands {
        let Some(parent) = trace.filter(TraceContext::is_sampled) else { continue };
        exporter.ended(&Ended {
            name: "transaction",
            kind: Kind::Internal,
            parent,
            began,
            failed: !committed,
            texts: &[("bespeak.command", command.name())],
            numbers: &[("bespeak.batch.commands", batch)],
        });
    }
}

/// Records the publication of events, each with whether the event log has it.
pub(crate) fn published<'a>(events: impl Iterator<Item = (&'a OutboxEvent, bool)>, Began(began): Began) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    for (event, is_published) in events {
        let Some(parent) = event.trace.filter(TraceContext::is_sampled) else { continue };
        let event_id = event.event_id.to_string();
        exporter.ended(&Ended {
            name: "publish",
            kind: Kind::Producer,
            parent,
            began,
            failed: !is_published,
            texts: &[("cloudevents.event_id", &event_id), ("cloudevents.event_type", &event.kind)],
            numbers: &[],
        });
    }
}

/// A consumer has applied an event.
pub(crate) fn applied(event: &Incoming, consumer: &str, Began(began): Began) {
    let (Some(exporter), Some(began)) = (exporter::exporter(), began) else { return };
    let Some(parent) = event.trace.filter(TraceContext::is_sampled) else { return };
    let event_id = event.event_id.to_string();
    exporter.ended(&Ended {
        name: "apply",
        kind: Kind::Consumer,
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
