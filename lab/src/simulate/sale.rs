//! The result of a flash sale, as the JSON, the text and the page show it.

use std::collections::BTreeMap;

use bespeak_lab::load::Summary;
use serde::Serialize;

use super::{books::Books, crowd::Answered};

/// What a flash sale came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sale {
    pub(crate) server: String,
    pub(crate) embedded: bool,
    pub(crate) resource: String,
    pub(crate) seed: u64,
    pub(crate) users: u32,
    pub(crate) stock: u64,
    pub(crate) quantity: u64,
    pub(crate) ramp_ms: u64,
    pub(crate) elapsed_ms: u64,
    /// Buyers who got units.
    pub(crate) accepted: u64,
    /// Buyers who were told that it is sold out.
    pub(crate) refused: u64,
    /// Buyers who got anything else, by what it was.
    pub(crate) errors: BTreeMap<String, u64>,
    /// How many can win: no more than there are buyers, no more than the stock allows.
    pub(crate) winners_expected: u64,
    pub(crate) reserve: Summary,
    pub(crate) commit: Option<Summary>,
    pub(crate) books: Books,
    /// Whether winners are as many as can be, nothing else went wrong and the books balance.
    pub(crate) passed: bool,
    /// When it was run, and on what.
    pub(crate) environment: Environment,
    #[serde(skip)]
    pub(crate) answers: Vec<Answered>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    pub(crate) version: &'static str,
    pub(crate) at: String,
    pub(crate) cores: usize,
    pub(crate) os: String,
}
