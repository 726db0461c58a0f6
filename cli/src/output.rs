//! Where results go: text for people, or JSON for machines.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: as JSON, or as the text that `text` makes.
    pub fn print(self, result: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let printed = if self.json {
            serde_json::to_string_pretty(result)
                .map_err(|error| Failure::caused("the result is no JSON", &error))?
        } else {
            text()
        };
        match writeln!(io::stdout().lock(), "{}", printed.trim_end()) {
            // Whoever reads has read enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::caused("standard output cannot be written", &error)),
        }
    }
}

/// A table with a header and no lines but the one below it.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header.to_vec());
    table
}

/// A small card: aligned names and values.
pub fn card(rows: &[(&str, String)]) -> String {
    let mut card = Table::new();
    card.load_style(presets::UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        card.add_row([*name, value.as_str()]);
    }
    card.to_string()
}
