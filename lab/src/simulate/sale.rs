//! The result of a flash sale, as the JSON, the text and the page show it.

use std::collections::BTreeMap;

use bespeak_cli::counted;
use bespeak_lab::load::Summary;
use serde::Serialize;

use super::{books::Books, crowd::Answered};

/// The result of a flash sale.
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
    /// Buyers who hold or bought units.
    pub(crate) accepted: u64,
    /// Buyers whose request was refused because the resource was sold out.
    pub(crate) refused: u64,
    /// The number of other results, by status or error.
    pub(crate) errors: BTreeMap<String, u64>,
    /// How many buyers can win: at most all of them, and at most as many as the stock allows.
    pub(crate) winners_expected: u64,
    pub(crate) reserve: Summary,
    pub(crate) commit: Option<Summary>,
    pub(crate) books: Books,
    /// Whether as many buyers won as can win, there were no errors, and the books balance.
    pub(crate) passed: bool,
    /// The time and the machine of the sale.
    pub(crate) environment: Environment,
    #[serde(skip)]
    pub(crate) answers: Vec<Answered>,
}

/// The time and the machine of a sale.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    pub(crate) version: &'static str,
    pub(crate) at: String,
    pub(crate) cores: usize,
    pub(crate) os: String,
}

/// The number of buyers with its noun.
pub(super) fn buyers(sale: &Sale) -> String {
    counted(sale.users.into(), "buyer", "buyers")
}

/// The number of units for sale with its noun.
pub(super) fn units(sale: &Sale) -> String {
    counted(sale.stock, "unit", "units")
}
