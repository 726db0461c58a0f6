//! The counts that a relay reports: of one step, and of a whole run.

use crate::telemetry::RelayCounts;

/// The counts of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStep {
    /// Events that were read.
    pub claimed: u64,
    /// Events that are in the log and marked as published.
    pub published: u64,
    /// Events that are in the log, but whose mark was refused, because another relay holds their shard by now. That
    /// relay sends them again.
    pub refused: u64,
    /// Keys that failed and back off.
    pub failed: u64,
    /// Keys that failed for the last time and wait for an operator.
    pub parked: u64,
    /// The age of the oldest unpublished event at the beginning of the step, in milliseconds.
    pub lag_ms: u64,
    /// The reason why nothing could be published, unless it was the events' fault.
    pub outage: Option<String>,
    /// Whether more events may be ready to be published.
    pub more: bool,
}

/// A step that failed because the database was unavailable.
pub(super) const OUTAGE: RelayCounts =
    RelayCounts { published: 0, refused: 0, failed: 0, parked: 0, outage: true };

impl RelayStep {
    pub(super) fn counts(&self) -> RelayCounts {
        RelayCounts {
            published: self.published,
            refused: self.refused,
            failed: self.failed,
            parked: self.parked,
            outage: self.outage.is_some(),
        }
    }
}

/// The sums of all steps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTotals {
    /// Events that are in the log and marked as published.
    pub published: u64,
    /// Events that are in the log, but whose mark was refused: another relay sends them again.
    pub refused: u64,
    /// Failures of keys.
    pub failed: u64,
    /// Keys that were parked.
    pub parked: u64,
    /// The greatest age of an event when it was read, in milliseconds.
    pub lag_ms: u64,
}

impl RelayTotals {
    pub(super) fn add(&mut self, step: &RelayStep) {
        self.published += step.published;
        self.refused += step.refused;
        self.failed += step.failed;
        self.parked += step.parked;
        self.lag_ms = self.lag_ms.max(step.lag_ms);
    }
}
