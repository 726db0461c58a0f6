//! The result of an audit of the books.

use serde::Serialize;

/// The largest number of findings of one check. If the books are broken throughout, the first findings are enough to
/// see it.
pub(super) const FINDINGS_MAX: u32 = 1_000;

/// The result of [`Store::audit`](super::Store::audit).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Resources that were checked.
    pub resources: u64,
    /// Reservations that were checked.
    pub reservations: u64,
    /// Outbox rows that were checked.
    pub events: u64,
    /// The violations, the first thousand of each check; empty if the books are consistent.
    pub findings: Vec<AuditFinding>,
}

/// A violation of an invariant in the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditFinding {
    /// The invariant: `I1`, `I2`, `I3` or `I7`.
    pub invariant: &'static str,
    /// The resource's id or the reservation's token.
    pub id: String,
    /// The violation, as the rest of a sentence that starts with the id.
    pub problem: String,
}

impl Audit {
    /// Whether the books are consistent.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A token in the form that clients know, from the plain hexadecimal of the database.
pub(super) fn hyphenated(id: impl Into<String>) -> String {
    let id = id.into();
    let plain = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { uuid::Uuid::try_parse(&id).map_or(id, |token| token.to_string()) } else { id }
}
