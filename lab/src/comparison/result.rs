//! The result of the comparison, as the JSON, the table, the page and the Markdown show it.

use bespeak::dispatch::Strategy;
use serde::Serialize;

use super::{environment::Environment, frozen::Frozen, scenario::Scenario, trial::Figures};

/// The result of a whole lab.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lab {
    pub(super) results: Vec<Figures>,
    pub(super) frozen_holder: Vec<Frozen>,
    pub(super) environment: Environment,
    /// For how long arrivals were measured in each run, except in the crowd and the soak.
    pub(super) seconds: f64,
    /// Whether Ctrl-C stopped the lab before its end. The results are then incomplete.
    pub(super) interrupted: bool,
    /// The failure that ended the lab before its end. The results are then incomplete.
    pub(super) broken: Option<String>,
    /// Whether every guarded strategy left consistent books and sold no unit twice.
    pub(super) passed: bool,
    /// The scenarios in the order of the report, with their titles.
    #[serde(skip)]
    pub(super) scenarios: Vec<Scenario>,
}

impl Lab {
    /// The runs of a scenario, in the order of the strategies.
    pub(super) fn of(&self, scenario: &str) -> Vec<&Figures> {
        self.results.iter().filter(|run| run.scenario == scenario).collect()
    }
}

impl Figures {
    /// Whether the books are as this strategy must leave them: consistent, unless it is unguarded.
    pub(super) fn is_right(&self) -> bool {
        self.strategy == Strategy::Unguarded.as_str() || (self.duplicates == 0 && self.findings == 0)
    }
}

impl Frozen {
    /// Whether nothing was sold twice, or the lock was alone.
    pub(super) fn is_right(&self) -> bool {
        !self.guarded || self.duplicates == 0
    }
}
