//! The report in Markdown, and the figures in it.
//!
//! Never: a measurement.

use std::{io::Write, time::Duration};

use crate::chart::Chart;

/// The figures of one case.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// The measurement in a few sentences.
    pub(crate) what: String,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// The target, and whether it was reached.
    pub(crate) verdict: String,
    pub(crate) chart: Option<Chart>,
}

/// The file name of a section's chart, for a report whose file name without extension is `stem`.
pub(crate) fn chart_file(stem: &str, title: &str) -> String {
    let words = title.to_lowercase();
    let words: Vec<&str> =
        words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{stem}-{}.svg", words.join("-"))
}

/// Writes the report. It refers to its charts if it gets a file, whose name without extension is `stem`.
pub(crate) fn markdown(environment: &str, command: &str, sections: &[Section], stem: Option<&str>) -> String {
    let mut text = format!("# Benchmarks\n\n{environment}- reproduced by `{command}`\n");
    for section in sections {
        text += &format!("\n## {}\n\n{}\n\n", section.title, section.what);
        text += &format!("| {} |\n|{}\n", section.header.join(" | "), "---|".repeat(section.header.len()));
        for row in &section.rows {
            text += &format!("| {} |\n", row.join(" | "));
        }
        if let (Some(chart), Some(stem)) = (&section.chart, stem) {
            text += &format!("\n![{}]({})\n", chart.title, chart_file(stem, section.title));
        }
        text += &format!("\n{}\n", section.verdict);
    }
    text
}

/// Prints to standard output, and ignores an output that is closed early.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The median; for an even number of values, the greater of the two in the middle.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The sentence that says whether a figure reached its target.
pub(crate) fn verdict(reached: bool, target: &str) -> String {
    format!("Target: {target}: {}.", if reached { "reached" } else { "**missed**" })
}

/// The rate of events that took so long.
pub(crate) fn per_second(events: u64, took: Duration) -> f64 {
    count_of(events) / took.as_secs_f64()
}

/// A number of events, for a report.
#[expect(clippy::cast_precision_loss, reason = "at most some millions")]
pub(crate) fn count_of(events: u64) -> f64 {
    events as f64
}

/// A part of 1, in per cent.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
