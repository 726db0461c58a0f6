//! A record of the event log, and its decoding: `CloudEvents` 1.0 in the binary mode of the Kafka binding
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).
//!
//! Never: trust in the content of a record. A record that is not well-formed is a [`Poison`] with a reason. Next:
//! `encode.rs`, which makes such records.

use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::{Incoming, Subject};
use crate::{
    engine::{EventType, ResourceId, Timestamp, Token},
    trace::{TRACEPARENT, TraceContext},
};

/// The largest value that a consumer accepts, in bytes: far above the largest that this product writes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The header of the trace context as an attribute of the event, CloudEvents' extension for distributed tracing
/// (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md>).
pub const CE_TRACEPARENT: &str = "ce_traceparent";

/// A record of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key within which records are ordered.
    pub key: Option<Vec<u8>>,
    /// The headers as they arrived; a name may occur twice.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The data.
    pub value: Option<Vec<u8>>,
    /// The position of the record in the log.
    pub origin: Origin,
}

/// The position of a record in the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic; `outbox` if there is no log.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset; the position in the outbox if there is no log.
    pub offset: i64,
}

/// The reason why a record cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// The record is a tombstone.
    #[error("the record has no value")]
    NoValue,
    /// The value is larger than any that this product writes.
    #[error("the value has {bytes} bytes; at most {VALUE_BYTES_MAX} are accepted")]
    TooLarge {
        /// The size of the value.
        bytes: usize,
    },
    /// A required header is missing.
    #[error("the header {0} is missing")]
    NoHeader(&'static str),
    /// A header has an invalid value.
    #[error("the header {name} is not valid: {value:?}, must be {expected}")]
    Header {
        /// The name of the header.
        name: &'static str,
        /// The value of the header.
        value: String,
        /// The expected value.
        expected: &'static str,
    },
    /// The type, or its version, is unknown to this build.
    #[error("the event type {kind:?} is unknown; it may belong to a later version of Bespeak")]
    UnknownType {
        /// The type.
        kind: String,
    },
    /// The value does not match the type.
    #[error("the value is not valid data of {kind}: {reason}")]
    Data {
        /// The type.
        kind: &'static str,
        /// The error of the decoder.
        reason: String,
    },
}

impl Poison {
    /// The label of the metric.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::NoValue | Self::TooLarge { .. } | Self::NoHeader(_) | Self::Header { .. } => "no_event",
            Self::UnknownType { .. } => "unknown_type",
            Self::Data { .. } => "data",
        }
    }
}

/// The fields of a reservation event that effects need. Other fields are ignored, because fields may be added.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReservationData {
    token: Uuid,
    version: u64,
    items: Vec<ItemData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemData {
    resource_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceData {
    resource_id: String,
    version: u64,
    available_stock: u64,
}

impl Record {
    /// The first header of a name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The id of the event, if the record has a valid one.
    pub fn event_id(&self) -> Option<Uuid> {
        Uuid::try_parse(&self.header("ce_id")?).ok()
    }

    /// The trace of the request that caused the event: the message header, which the last sender wrote, else the
    /// attribute of the event. An invalid header counts as missing.
    pub fn trace(&self) -> Option<TraceContext> {
        [TRACEPARENT, CE_TRACEPARENT]
            .into_iter()
            .filter_map(|name| self.headers.iter().find(|(found, _)| found == name))
            .find_map(|(_, value)| TraceContext::parse(str::from_utf8(value).ok()?))
    }

    /// Decodes the event of this record.
    ///
    /// # Errors
    /// The record cannot be applied.
    pub fn incoming(&self) -> Result<Incoming, Poison> {
        let value = self.value.as_deref().ok_or(Poison::NoValue)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Poison::TooLarge { bytes: value.len() });
        }
        let required = |name| self.header(name).ok_or(Poison::NoHeader(name));
        let wrong = |name, value, expected| Poison::Header { name, value, expected };
        let specversion = required("ce_specversion")?;
        if specversion != "1.0" {
            return Err(wrong("ce_specversion", specversion, "1.0"));
        }
        let id = required("ce_id")?;
        let event_id = Uuid::try_parse(&id).map_err(|_| wrong("ce_id", id, "a UUID"))?;
        let source = required("ce_source")?.into();
        let kind = required("ce_type")?;
        let kind = EventType::parse(&kind).ok_or(Poison::UnknownType { kind })?;
        let time = required("ce_time")?;
        let at = time.parse::<Timestamp>().map_err(|_| wrong("ce_time", time, "a time of RFC 3339"))?;
        let text = std::str::from_utf8(value)
            .map_err(|error| Poison::Data { kind: kind.as_str(), reason: error.to_string() })?;
        let (subject, version) =
            data(kind, text).map_err(|reason| Poison::Data { kind: kind.as_str(), reason })?;
        let trace = self.trace();
        Ok(Incoming { event_id, kind, at, subject, version, source, payload: text.into(), trace })
    }
}

fn data(kind: EventType, text: &str) -> Result<(Subject, u64), String> {
    let resource = |id: &str| ResourceId::new("resourceId", id).map_err(|violation| violation.to_string());
    if matches!(kind, EventType::Depleted | EventType::Restored) {
        let data: ResourceData = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let id = resource(&data.resource_id)?;
        return Ok((Subject::Resource { id, available: data.available_stock }, data.version));
    }
    let data: ReservationData = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let resources = data.items.iter().map(|item| resource(&item.resource_id)).collect::<Result<_, _>>()?;
    Ok((Subject::Reservation { token: Token::from_uuid(data.token), resources }, data.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Record {
        let token = Uuid::from_u128(9);
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let value =
            format!(r#"{{"token":"{token}","version":2,"items":[{{"resourceId":"car","quantity":1}}]}}"#);
        Record {
            key: Some(token.to_string().into_bytes()),
            headers: vec![
                header("ce_specversion", "1.0"),
                header("ce_id", &Uuid::from_u128(5).to_string()),
                header("ce_source", "/bespeak"),
                header("ce_type", EventType::Committed.as_str()),
                header("ce_time", "2026-01-01T00:00:00Z"),
            ],
            value: Some(value.into_bytes()),
            origin: Origin { topic: "t".into(), partition: 0, offset: 0 },
        }
    }

    #[test]
    fn a_valid_record_is_decoded() {
        let incoming = good().incoming().unwrap();
        assert_eq!(
            (incoming.event_id, incoming.kind, incoming.version),
            (Uuid::from_u128(5), EventType::Committed, 2)
        );
        let resources = vec![ResourceId::new("id", "car").unwrap()];
        let token = Token::from_uuid(Uuid::from_u128(9));
        assert_eq!(incoming.subject, Subject::Reservation { token, resources });
    }

    #[test]
    fn an_invalid_record_is_refused_with_a_reason() {
        let good = good();
        let with = |name: &str, value: &str| {
            let mut record = good.clone();
            record.headers.retain(|(found, _)| found != name);
            if !value.is_empty() {
                record.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
            record.incoming().unwrap_err()
        };
        assert_eq!(Record { value: None, ..good.clone() }.incoming().unwrap_err(), Poison::NoValue);
        let large = Record { value: Some(vec![b' '; 2 << 20]), ..good.clone() };
        assert_eq!(large.incoming().unwrap_err(), Poison::TooLarge { bytes: 2 << 20 });
        for name in ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"] {
            assert_eq!(with(name, "").to_string(), format!("the header {name} is missing"));
        }
        assert!(with("ce_id", "5").to_string().contains("must be a UUID"));
        assert!(with("ce_specversion", "0.3").to_string().contains("must be 1.0"));
        assert!(with("ce_time", "yesterday").to_string().contains("RFC 3339"));
        for unknown in ["bespeak.reservation.committed.v2", "bespeak.reservation.teleported.v1", "x"] {
            assert_eq!(with("ce_type", unknown), Poison::UnknownType { kind: unknown.to_owned() });
        }
        for value in [&b"{"[..], b"[]", b"{\"token\":7}", b"\xff"] {
            let record = Record { value: Some(value.to_vec()), ..good.clone() };
            assert!(matches!(record.incoming(), Err(Poison::Data { .. })), "{value:?}");
        }
    }
}
