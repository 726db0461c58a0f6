//! The report, in Markdown.

use std::io::Write;

use crate::chart::Chart;

/// One case's figures.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What was done, in a sentence or two.
    pub(crate) what: String,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What was aimed at, and whether it was reached.
    pub(crate) verdict: String,
    pub(crate) chart: Option<Chart>,
}

/// The file of a section's chart, beside the report whose name begins with `stem`.
pub(crate) fn chart_file(stem: &str, title: &str) -> String {
    let words = title.to_lowercase();
    let words: Vec<&str> =
        words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{stem}-{}.svg", words.join("-"))
}

/// The report; with the charts of a report whose name begins with `stem`, where it has a name.
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

/// Prints to standard output; whoever reads may have read enough.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The middle one.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Whether a figure reached its target.
pub(crate) fn verdict(reached: bool, target: &str) -> String {
    format!("Target: {target}: {}.", if reached { "reached" } else { "**missed**" })
}
