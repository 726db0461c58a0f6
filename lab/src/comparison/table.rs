//! The report as tables for the terminal.

use bespeak_lab::load::thousands;
use comfy_table::{Attribute, Cell, CellAlignment, Color};

use super::{charts::ms, result::Lab, sentences::Sentences};
use bespeak_cli::table;

const HEADER: [&str; 12] = [
    "scenario", "strategy", "req/s", "mean ms", "p50", "p95", "p99", "max", "accepted", "refused", "failed",
    "waited",
];

pub(super) fn text(lab: &Lab) -> String {
    let mut header = HEADER.to_vec();
    // The most important column is the last one, where the eye stops.
    header.push("duplicates");
    let mut figures = table(&header);
    for scenario in &lab.scenarios {
        for (n, run) in lab.of(scenario.name).into_iter().enumerate() {
            let times = [run.mean_ms, run.p50_ms, run.p95_ms, run.p99_ms, run.max_ms].map(ms);
            let mut row = vec![if n == 0 { scenario.name } else { "" }.to_owned(), run.strategy.to_owned()];
            row.push(thousands(run.requests_per_second));
            row.extend(times);
            row.extend([run.accepted, run.refused].map(|count| count.to_string()));
            row.push(format!("{:.1} %", run.failure_rate * 100.0));
            row.push(format!("{:.0} %", run.waited_share * 100.0));
            let mut cells: Vec<Cell> = row.into_iter().enumerate().map(|(n, text)| cell(n, text)).collect();
            cells.push(duplicates(run.duplicates));
            figures.add_row(cells);
        }
    }
    let mut parts = vec![figures.to_string()];
    if !lab.frozen_holder.is_empty() {
        let mut frozen = table(&[
            "frozen holder",
            "stopped",
            "for ms",
            "lease ms",
            "sold meanwhile",
            "locks lost",
            "duplicates",
        ]);
        for holder in &lab.frozen_holder {
            let with = if holder.guarded { "with the store's guard" } else { "alone" };
            let row = [
                format!("{} {with}", holder.strategy),
                format!("{} x", holder.rounds),
                holder.frozen_ms.to_string(),
                holder.lease_ms.to_string(),
                holder.sold_meanwhile.to_string(),
                holder.locks_lost.to_string(),
            ];
            let mut cells: Vec<Cell> = row.into_iter().map(Cell::new).collect();
            cells.push(duplicates(holder.duplicates));
            frozen.add_row(cells);
        }
        parts.push(frozen.to_string());
    }
    parts.extend(Sentences::of(lab).all());
    parts.extend(lab.environment.lines());
    parts.join("\n")
}

fn cell(column: usize, text: String) -> Cell {
    let cell = Cell::new(text);
    if column < 2 { cell } else { cell.set_alignment(CellAlignment::Right) }
}

fn duplicates(count: u64) -> Cell {
    let cell = Cell::new(count).set_alignment(CellAlignment::Right);
    if count == 0 { cell } else { cell.fg(Color::Red).add_attribute(Attribute::Bold) }
}
