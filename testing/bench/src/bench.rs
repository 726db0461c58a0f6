//! How the benchmarks measure: the binaries under test, the times and the number of rounds.
//!
//! Never: a server; `cases.rs` starts those that cases share.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

/// The parameters of a run.
pub(crate) struct Bench {
    /// The `bespeak` binary.
    pub(crate) binary: PathBuf,
    /// The folder with the programs of the Lambda functions.
    pub(crate) functions: PathBuf,
    /// The time before each measurement in which responses are not counted.
    pub(crate) warm_up: Duration,
    /// The length of a measurement.
    pub(crate) duration: Duration,
    /// The number of rounds, at least 1. Reports contain medians.
    pub(crate) rounds: usize,
    /// A description of the broker, for the report, if a case has started one.
    pub(crate) broker: OnceLock<String>,
}
