//! Encodes an event of the outbox as a record of the event log.

use super::{CE_TRACEPARENT, Origin, OutboxEvent, Record};
use crate::trace::TRACEPARENT;

/// Encodes an event as a record. Every publisher sends this record. `source` is the CloudEvents source.
pub fn record(event: &OutboxEvent, source: &str) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", &event.event_id.to_string()),
        header("ce_source", source),
        header("ce_type", &event.kind),
        header("ce_time", &event.created_at.to_string()),
        header("ce_subject", &event.key),
        header("ce_keyversion", &event.version.to_string()),
        header("content-type", "application/json"),
    ];
    // Twice: as an attribute of the event, which nothing changes, and as a header of the message, which a hop that
    // passes the message on may replace with its own.
    if let Some(trace) = event.trace {
        let traceparent = trace.traceparent();
        headers.push(header(CE_TRACEPARENT, traceparent.as_str()));
        headers.push(header(TRACEPARENT, traceparent.as_str()));
    }
    Record {
        key: Some(event.key.clone().into_bytes()),
        headers,
        value: Some(event.payload.clone().into_bytes()),
        origin: Origin { topic: "outbox".into(), partition: 0, offset: event.id },
    }
}
