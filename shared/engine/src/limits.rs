//! What one request may ask for, and how a violation is told.

use std::fmt;

use serde::Serialize;

use super::{Holder, Quantity, Ttl};

/// A value that is not acceptable: which field, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// Where it was: `quantity`, `items[2].resourceId`, `Idempotency-Key`.
    pub field: String,
    /// What would be right, as the end of a sentence that starts with the field.
    pub problem: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

/// The limits on requests: policy, set by configuration, published in the OpenAPI document. What lies within a type's
/// own bounds but outside of these is refused at the edge; what is already stored stays valid when they are lowered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The largest quantity of one item, in units, after merging.
    pub quantity_max: u64,
    /// The largest total of a resource, in units.
    pub total_max: u64,
    /// The TTL of a hold that names none, in seconds.
    pub ttl_default_seconds: u64,
    /// The longest TTL, in seconds.
    pub ttl_max_seconds: u64,
    /// How long a hold may live in all, extensions included, in seconds from its creation.
    pub life_max_seconds: u64,
    /// The most items of one reservation, counted before merging.
    pub items_max: usize,
    /// The longest holder, in characters.
    pub holder_length_max: usize,
    /// The longest metadata, in bytes of canonical JSON.
    pub metadata_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quantity_max: 1_000_000,
            total_max: super::TOTAL_MAX,
            ttl_default_seconds: 300,
            ttl_max_seconds: 24 * 60 * 60,
            life_max_seconds: 48 * 60 * 60,
            items_max: 32,
            holder_length_max: Holder::LENGTH_MAX,
            metadata_bytes_max: 4 * 1024,
        }
    }
}

impl Limits {
    /// A quantity within the limits.
    pub fn quantity(&self, field: &str, units: u64) -> Result<Quantity, Violation> {
        if (1..=self.quantity_max).contains(&units) {
            Quantity::new(field, units)
        } else {
            Err(Violation::new(field, format!("must be 1 to {}, was {units}", self.quantity_max)))
        }
    }

    /// A total within the limits, in units.
    pub fn total(&self, field: &str, units: u64) -> Result<u64, Violation> {
        if units <= self.total_max {
            Ok(units)
        } else {
            Err(Violation::new(field, format!("must be 0 to {}, was {units}", self.total_max)))
        }
    }

    /// A TTL within the limits; the default where none was given.
    pub fn ttl(&self, field: &str, seconds: Option<u64>) -> Result<Ttl, Violation> {
        let seconds = seconds.unwrap_or(self.ttl_default_seconds);
        if (1..=self.ttl_max_seconds).contains(&seconds) {
            Ttl::new(field, seconds)
        } else {
            Err(Violation::new(field, format!("must be 1 to {}, was {seconds}", self.ttl_max_seconds)))
        }
    }

    /// A holder within the limits.
    pub fn holder(&self, holder: &str) -> Result<Holder, Violation> {
        if holder.chars().count() > self.holder_length_max {
            return Err(Violation::new(
                "holder",
                format!("must have 1 to {} characters", self.holder_length_max),
            ));
        }
        Holder::new(holder)
    }
}
