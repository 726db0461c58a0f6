//! Conclusions from the figures, in words, for the page, the table and the Markdown.

use bespeak_cli::counted;
use bespeak_lab::load::thousands;

use super::{charts::ms, result::Lab, scenario::Scenario};

/// The conclusions, in order.
pub(super) struct Sentences(Vec<String>);

impl Sentences {
    /// Derives the conclusions from the figures.
    pub(super) fn of(lab: &Lab) -> Self {
        let mut sentences: Vec<String> =
            lab.scenarios.iter().filter_map(|scenario| compared(lab, scenario)).collect();
        sentences.extend(lab.results.iter().filter(|run| !run.is_right()).map(|run| {
            format!(
                "{} under {} left the books wrong: {} sold twice, {}.",
                run.strategy,
                run.scenario,
                counted(run.duplicates, "unit", "units"),
                counted(run.findings, "other finding", "other findings")
            )
        }));
        sentences.extend(lab.broken.iter().map(|what| format!("The lab could not finish: {what}")));
        let unguarded = || lab.results.iter().filter(|run| run.strategy == "unguarded");
        if unguarded().next().is_some() && unguarded().all(|run| run.duplicates == 0) {
            sentences.push(
                "The load was too light to make the unguarded strategy oversell, so it proves nothing \
            about the others."
                    .to_owned(),
            );
        }
        let unseen = lab.frozen_holder.iter().filter(|holder| !holder.guarded && holder.duplicates == 0);
        sentences.extend(unseen.map(|holder| {
            format!(
                "{} alone sold nothing twice although its holder was stopped {}: no stop fell between the read \
                 and the write of a \
                 transaction. Run the lab again.",
                holder.strategy,
                counted(holder.rounds.into(), "time", "times")
            )
        }));
        Self(sentences)
    }

    /// All conclusions, each a whole sentence.
    pub(super) fn all(self) -> Vec<String> {
        self.0
    }
}

/// Compares lanes with the best of the other guarded strategies in a scenario.
fn compared(lab: &Lab, scenario: &Scenario) -> Option<String> {
    let runs: Vec<_> = lab.of(scenario.name).into_iter().filter(|run| run.strategy != "unguarded").collect();
    let lanes = runs.iter().find(|run| run.strategy == "lanes")?;
    let others = || runs.iter().filter(|run| run.strategy != "lanes");
    let quickest = others().min_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms))?;
    let busiest = others().max_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second))?;
    Some(format!(
        "{}: lanes {}/s, p99 {} ms; the best of the others: {}/s ({}), p99 {} ms ({}).",
        scenario.title,
        thousands(lanes.requests_per_second),
        ms(lanes.p99_ms),
        thousands(busiest.requests_per_second),
        busiest.strategy,
        ms(quickest.p99_ms),
        quickest.strategy
    ))
}
