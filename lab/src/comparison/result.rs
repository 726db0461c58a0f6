//! The result of the comparison, as the JSON, the table, the page and the Markdown show it.

use bespeak::dispatch::Strategy;
use serde::Serialize;

use super::{environment::Environment, frozen::Frozen, scenario::Scenario, trial::Figures};

/// What the lab came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lab {
    pub(super) results: Vec<Figures>,
    pub(super) frozen_holder: Vec<Frozen>,
    pub(super) environment: Environment,
    /// For how long arrivals were measured in each run, the crowd and the soak aside.
    pub(super) seconds: f64,
    /// Whether it was stopped before the end: then what is there is part of it.
    pub(super) interrupted: bool,
    /// What ended it before its end, if something did: then what is there is part of it.
    pub(super) broken: Option<String>,
    /// Whether nothing was sold twice, nor anything else wrong with the books, wherever they were guarded.
    pub(super) passed: bool,
    /// For the order and the titles of the page.
    #[serde(skip)]
    pub(super) scenarios: Vec<Scenario>,
}

impl Lab {
    /// The runs of a scenario, in their order.
    pub(super) fn of(&self, scenario: &str) -> Vec<&Figures> {
        self.results.iter().filter(|run| run.scenario == scenario).collect()
    }
}

impl Figures {
    /// Whether the books came out as this strategy must leave them.
    pub(super) fn is_right(&self) -> bool {
        self.strategy == Strategy::Unguarded.as_str() || (self.duplicates == 0 && self.findings == 0)
    }
}

impl Frozen {
    pub(super) fn is_right(&self) -> bool {
        !self.guarded || self.duplicates == 0
    }
}
