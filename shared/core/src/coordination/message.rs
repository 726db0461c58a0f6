//! The messages of the sold-out channel: several hints, encoded as JSON.
//!
//! A message that cannot be decoded is ignored, because another version of this program may have sent it.

use serde::{Deserialize, Serialize};

use crate::{
    dispatch::{Finding, StockHint},
    engine::{ResourceId, Timestamp},
};

/// The hints of one process.
#[derive(Debug, Serialize, Deserialize)]
struct HintMessage {
    /// The number of the sender, which ignores its own messages.
    from: u64,
    notices: Vec<WireHint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireHint {
    resource: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    short: Option<WireShortage>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireShortage {
    available: u64,
    as_of: Timestamp,
    next_release_at: Option<Timestamp>,
}

/// Encodes hints of the process `from`.
pub(super) fn encode(from: u64, hints: Vec<StockHint>) -> String {
    let wire = |StockHint { resource, version, found }| {
        let short = match found {
            Finding::GivenBack => None,
            Finding::Short { available, as_of, next_release_at } => {
                Some(WireShortage { available, as_of, next_release_at })
            }
        };
        WireHint { resource: resource.as_str().to_owned(), version, short }
    };
    let message = HintMessage { from, notices: hints.into_iter().map(wire).collect() };
    // Cannot fail: the message has only numbers and strings.
    serde_json::to_string(&message).unwrap_or_default()
}

/// Decodes the hints of another process than `me`; none if the message cannot be decoded or is this process's own.
pub(super) fn decode(me: u64, text: &[u8]) -> Vec<StockHint> {
    let Ok(HintMessage { from, notices }) = serde_json::from_slice(text) else { return Vec::new() };
    if from == me {
        return Vec::new();
    }
    let hint = |WireHint { resource, version, short }: WireHint| {
        let resource = ResourceId::new("resource", &resource).ok()?;
        let found = match short {
            None => Finding::GivenBack,
            Some(WireShortage { available, as_of, next_release_at }) => {
                Finding::Short { available, as_of, next_release_at }
            }
        };
        Some(StockHint { resource, version, found })
    };
    notices.into_iter().filter_map(hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_the_messages_of_others_and_ignores_its_own() {
        let resource = ResourceId::new("resource", "hotel/room-1").expect("an id");
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        let short = Finding::Short {
            available: 2,
            as_of: at("2026-11-22T11:00:00.123456Z"),
            next_release_at: Some(at("2026-11-22T11:05:00Z")),
        };
        let hints: Vec<_> = [short, Finding::GivenBack]
            .into_iter()
            .map(|found| StockHint { resource: resource.clone(), version: 7, found })
            .collect();
        let text = encode(1, hints.clone());
        assert_eq!(decode(2, text.as_bytes()), hints);
        assert_eq!(decode(1, text.as_bytes()), []);
        for unreadable in ["", "{}", "[1]", r#"{"from":1,"notices":[{"resource":"a b","version":1}]}"#] {
            assert_eq!(decode(2, unreadable.as_bytes()), [], "{unreadable}");
        }
    }
}
