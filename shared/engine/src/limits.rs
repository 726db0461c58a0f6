//! The limits of one request.

use serde::Serialize;

use super::{Holder, Quantity, Ttl, violation::Violation};

/// The limits of one request: a policy that is set by configuration and published in the OpenAPI document. A value
/// within the bounds of its type but outside these limits is refused at the edge. Lowering a limit does not
/// invalidate what is already stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The largest quantity of one item, in units, after merging.
    pub quantity_max: u64,
    /// The largest total of a resource, in units.
    pub total_max: u64,
    /// The TTL of a hold whose request names none, in seconds.
    pub ttl_default_seconds: u64,
    /// The longest TTL, in seconds.
    pub ttl_max_seconds: u64,
    /// The longest life of a hold, extensions included, in seconds from its creation.
    pub life_max_seconds: u64,
    /// The largest number of items of one reservation, counted before merging.
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
    /// Parses a quantity within the limits.
    pub fn quantity(&self, field: &str, units: u64) -> Result<Quantity, Violation> {
        if (1..=self.quantity_max).contains(&units) {
            Quantity::new(field, units)
        } else {
            Err(Violation::new(field, format!("must be 1 to {}, was {units}", self.quantity_max)))
        }
    }

    /// Checks that a total, in units, is within the limits.
    pub fn total(&self, field: &str, units: u64) -> Result<u64, Violation> {
        if units <= self.total_max {
            Ok(units)
        } else {
            Err(Violation::new(field, format!("must be 0 to {}, was {units}", self.total_max)))
        }
    }

    /// Parses a TTL within the limits; `None` gives the default TTL.
    pub fn ttl(&self, field: &str, seconds: Option<u64>) -> Result<Ttl, Violation> {
        let seconds = seconds.unwrap_or(self.ttl_default_seconds);
        if (1..=self.ttl_max_seconds).contains(&seconds) {
            Ttl::new(field, seconds)
        } else {
            Err(Violation::new(field, format!("must be 1 to {}, was {seconds}", self.ttl_max_seconds)))
        }
    }

    /// Parses a holder within the limits.
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
