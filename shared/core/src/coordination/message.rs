//! Notices as they travel: JSON, several in one message.
//!
//! What cannot be read is no notice: another version of this program may be at the other end.

use serde::{Deserialize, Serialize};

use crate::{
    dispatch::{Finding, StockHint},
    engine::{ResourceId, Timestamp},
};

/// Notices of one process.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// Which process, so that it need not read its own.
    from: u64,
    notices: Vec<Wire>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    resource: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    short: Option<Short>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Short {
    available: u64,
    as_of: Timestamp,
    next_release_at: Option<Timestamp>,
}

/// Notices of the process that is called `from`, as text.
pub(super) fn encode(from: u64, notices: Vec<StockHint>) -> String {
    let wire = |StockHint { resource, version, found }| {
        let short = match found {
            Finding::GivenBack => None,
            Finding::Short { available, as_of, next_release_at } => {
                Some(Short { available, as_of, next_release_at })
            }
        };
        Wire { resource: resource.as_str().to_owned(), version, short }
    };
    let message = Message { from, notices: notices.into_iter().map(wire).collect() };
    // Numbers and strings: it cannot fail.
    serde_json::to_string(&message).unwrap_or_default()
}

/// The notices of another process than `me`; none where it cannot be read.
pub(super) fn decode(me: u64, text: &[u8]) -> Vec<StockHint> {
    let Ok(Message { from, notices }) = serde_json::from_slice(text) else { return Vec::new() };
    if from == me {
        return Vec::new();
    }
    let notice = |Wire { resource, version, short }: Wire| {
        let resource = ResourceId::new("resource", &resource).ok()?;
        let found = match short {
            None => Finding::GivenBack,
            Some(Short { available, as_of, next_release_at }) => {
                Finding::Short { available, as_of, next_release_at }
            }
        };
        Some(StockHint { resource, version, found })
    };
    notices.into_iter().filter_map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_writes_another_reads_and_itself_does_not() {
        let resource = ResourceId::new("resource", "hotel/room-1").expect("an id");
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        let short = Finding::Short {
            available: 2,
            as_of: at("2026-11-22T11:00:00.123456Z"),
            next_release_at: Some(at("2026-11-22T11:05:00Z")),
        };
        let notices: Vec<_> = [short, Finding::GivenBack]
            .into_iter()
            .map(|found| StockHint { resource: resource.clone(), version: 7, found })
            .collect();
        let text = encode(1, notices.clone());
        assert_eq!(decode(2, text.as_bytes()), notices);
        assert_eq!(decode(1, text.as_bytes()), []);
        for unreadable in ["", "{}", "[1]", r#"{"from":1,"notices":[{"resource":"a b","version":1}]}"#] {
            assert_eq!(decode(2, unreadable.as_bytes()), [], "{unreadable}");
        }
    }
}
