//! Prints results: text for people, or JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// How a command prints its result.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Prints JSON if `json` is true, and text otherwise.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result to standard output: as JSON, or as the text that `text` returns.
    ///
    /// # Errors
    /// Standard output cannot be written. A reader that closed it early (`| head`) is not an error.
    pub fn print(self, result: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let printed = if self.json {
            serde_json::to_string_pretty(result)
                .map_err(|error| Failure::caused("the result cannot be written as JSON", &error))?
        } else {
            text()
        };
        match writeln!(io::stdout().lock(), "{}", printed.trim_end()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::caused("standard output cannot be written", &error)),
        }
    }
}

/// A count with its noun, such as `1 key` or `2 keys`. `one` and `many` may continue the sentence: `key is blocked`
/// and
/// `keys are blocked`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// An empty table with a header, and a line only below the header.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header.to_vec());
    table
}

/// A small card: names, and their values aligned beside them.
pub fn card(rows: &[(&str, String)]) -> String {
    let mut card = Table::new();
    card.load_style(presets::UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        card.add_row([*name, value.as_str()]);
    }
    card.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_count() {
        let keys = |count| counted(count, "key is blocked", "keys are blocked");
        assert_eq!(keys(0), "0 keys are blocked");
        assert_eq!(keys(1), "1 key is blocked");
        assert_eq!(keys(2), "2 keys are blocked");
    }
}
