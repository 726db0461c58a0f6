//! How an unacceptable value is reported.

use std::fmt;

/// A value that is not acceptable: names the field and says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// The field: `quantity`, `items[2].resourceId`, `Idempotency-Key`.
    pub field: String,
    /// What would be right, as the end of a sentence that starts with the field.
    pub problem: String,
}

impl Violation {
    /// Creates a violation of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}
