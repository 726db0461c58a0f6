//! Quantities, totals and times to live.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::violation::Violation;

/// The largest total of a resource, in units: 2^53 - 1, the largest integer that every JSON client reads exactly
/// (RFC 8259, section 6).
pub const TOTAL_MAX: u64 = (1 << 53) - 1;

/// The number of units of a resource in an item: 1 to [`TOTAL_MAX`]. [`Limits`](super::Limits) bounds it further for
/// one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "How many units of a resource an item takes.")]
pub struct Quantity(#[schemars(range(min = 1, max = TOTAL_MAX))] u64);

impl Quantity {
    /// Parses a quantity, in units.
    pub fn new(field: &str, units: u64) -> Result<Self, Violation> {
        if (1..=TOTAL_MAX).contains(&units) {
            Ok(Self(units))
        } else {
            Err(Violation::new(field, format!("must be 1 to {TOTAL_MAX}, was {units}")))
        }
    }

    /// The quantity in units.
    pub fn units(self) -> u64 {
        self.0
    }
}

/// How long a hold lives if nothing ends it before: whole seconds, at least 1. Because of this lower bound the expiry
/// timer finds every hold of every process in time (see `background/expiry.rs` of the crate `bespeak`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(u32);

impl Ttl {
    /// Parses a time to live, in seconds.
    pub fn new(field: &str, seconds: u64) -> Result<Self, Violation> {
        match u32::try_from(seconds) {
            Ok(seconds) if seconds >= 1 => Ok(Self(seconds)),
            _ => Err(Violation::new(field, format!("must be at least 1 second, was {seconds}"))),
        }
    }

    /// The time to live in seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// The time to live as a duration.
    pub fn duration(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(self.0.into())
    }
}
