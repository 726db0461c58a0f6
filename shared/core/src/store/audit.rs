//! What an audit of the books found.

use serde::Serialize;

/// Findings of one check, at most: books that are broken throughout are told from those that are not by the first of them.
pub(super) const FINDINGS_MAX: u32 = 1_000;

/// The result of [`Store::audit`](super::Store::audit).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Resources that were looked at.
    pub resources: u64,
    /// Reservations that were looked at.
    pub reservations: u64,
    /// Outbox rows that were looked at.
    pub events: u64,
    /// What is wrong, the first thousand of each kind; empty when the books are in order.
    pub findings: Vec<Finding>,
}

/// Something in the books that an invariant forbids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The invariant: `I1`, `I2`, `I3` or `I7`.
    pub invariant: &'static str,
    /// The resource's id or the reservation's token.
    pub id: String,
    /// What is wrong.
    pub problem: String,
}

impl Audit {
    /// Whether the books are in order.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A token as clients know it, from the database's plain hexadecimal.
pub(super) fn hyphenated(id: impl Into<String>) -> String {
    let id = id.into();
    let plain = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { uuid::Uuid::try_parse(&id).map_or(id, |token| token.to_string()) } else { id }
}
