//! Where in the source a change belongs, and which rows no longer fit the source.

use std::{
    collections::HashSet,
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::catalogue::{Edit, Mutation, Within};

/// What comes before the name of an item, in Rust and in JavaScript.
const KEYWORDS: [&str; 7] = ["fn", "const", "static", "struct", "enum", "macro_rules!", "function"];

/// A row that does not fit the source, and why.
#[derive(Debug)]
pub(super) struct Stale {
    /// The number of the row.
    pub(super) row: usize,
    why: String,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mutation {}: {}", self.row, self.why)
    }
}

/// The rows that do not fit the source: a file, a function, a text, a package or a test that no longer exists.
pub(super) fn stale(root: &Path, rows: &[Mutation]) -> Vec<Stale> {
    let sources = Sources::read(root);
    let mut stale = Vec::new();
    for row in rows {
        let mut note = |why| stale.push(Stale { row: row.number, why });
        for edit in &row.edits {
            match fs::read_to_string(root.join(&edit.file)) {
                Ok(text) => match edit.locate(&text) {
                    Ok(_) => {}
                    Err(why) => note(format!("{}: {why}", edit.file)),
                },
                Err(error) => note(format!("{}: {error}", edit.file)),
            }
        }
        for (package, filters) in &row.tests {
            if !sources.packages.contains(package) {
                note(format!("there is no package {package}"));
            }
            for filter in filters.iter().filter(|filter| !sources.has_test(filter)) {
                note(format!("no test is named {filter}"));
            }
        }
    }
    stale
}

impl Edit {
    /// The place of the text that is replaced.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(super) fn locate(&self, source: &str) -> Result<Range<usize>, String> {
        let all = |place: Range<usize>| {
            source[place.clone()].match_indices(&self.find).map(move |(at, _)| place.start + at)
        };
        let (found, first_counts): (Vec<usize>, bool) = match &self.within {
            Within::File => (all(0..source.len()).collect(), false),
            Within::Item(name) => {
                let items = items(source, name);
                if items.is_empty() {
                    return Err(format!("there is no function or other item named {name}"));
                }
                (items.into_iter().flat_map(all).collect(), false)
            }
            Within::After(text) => {
                let mut starts = source.match_indices(text.as_str());
                match (starts.next(), starts.next()) {
                    (Some((start, _)), None) => (all(start + text.len()..source.len()).collect(), true),
                    (None, _) => return Err(format!("{text:?} is not there")),
                    _ => return Err(format!("{text:?} is there more than once")),
                }
            }
        };
        match found[..] {
            [] => Err(format!("{:?} is not there", self.find)),
            [start, ..] if found.len() == 1 || first_counts => Ok(start..start + self.find.len()),
            _ => Err(format!("{:?} is there {} times", self.find, found.len())),
        }
    }
}

/// The items of this name, each with the comments and attributes right above it.
///
/// It relies on the source being formatted: an item that is not a constant ends at the first line that is
/// indented like its first one and begins with a closing brace.
fn items(source: &str, name: &str) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        lines.push((start, line));
        start += line.len();
    }
    let mut items = Vec::new();
    for n in 0..lines.len() {
        let Some(keyword) = keyword_of(lines[n].1, name) else { continue };
        let is_constant = matches!(keyword, "const" | "static");
        let last = if is_constant { end_of_constant(&lines[n..]) } else { end_of_block(&lines[n..]) };
        let (at, line) = lines[n + last];
        let is_above =
            |line: &str| line.trim_start().starts_with("#[") || line.trim_start().starts_with("//");
        let above = lines[..n].iter().rev().take_while(|(_, line)| is_above(line)).count();
        items.push(lines[n - above].0..at + line.len());
    }
    items
}

/// The keyword, if the line begins an item of this name.
fn keyword_of(line: &str, name: &str) -> Option<&'static str> {
    let code = line.trim_start();
    if code.starts_with("//") {
        return None;
    }
    KEYWORDS.into_iter().find(|keyword| {
        code.match_indices(keyword).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            let after = code[at + keyword.len()..].strip_prefix(' ').and_then(|rest| rest.strip_prefix(name));
            before.is_none_or(char::is_whitespace)
                && after
                    .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        })
    })
}

/// The last line of a constant: the first that ends with a semicolon outside a string.
fn end_of_constant(lines: &[(usize, &str)]) -> usize {
    let mut quotes = 0;
    for (n, (_, line)) in lines.iter().enumerate() {
        quotes += line.matches('"').count() - line.matches("\\\"").count();
        if quotes % 2 == 0 && line.trim_end().ends_with(';') {
            return n;
        }
    }
    lines.len() - 1
}

/// The last line of a function, type or macro.
fn end_of_block(lines: &[(usize, &str)]) -> usize {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let first = lines[0].1;
    if first.trim_end().ends_with([';', '}']) {
        return 0;
    }
    let ends = |line: &str| {
        let code = line.trim();
        indentation(line) == indentation(first)
            && (code.starts_with('}') || (code.starts_with(')') && code.ends_with(';')))
    };
    lines.iter().skip(1).position(|(_, line)| ends(line)).map_or(lines.len() - 1, |n| n + 1)
}

/// The words and packages of the workspace.
struct Sources {
    /// Every identifier of every Rust file, and the names of files and folders.
    words: HashSet<String>,
    packages: HashSet<String>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self { words: HashSet::new(), packages: HashSet::new() };
        sources.visit(root);
        sources
    }

    /// Whether tests of such a name can exist: each part of it is a word.
    fn has_test(&self, filter: &str) -> bool {
        filter.split("::").filter(|part| !part.is_empty()).all(|part| self.words.contains(part))
    }

    fn visit(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            // What Cargo builds, and what is hidden, is no source.
            if path.is_dir() && name != "target" && !name.is_empty() && !name.starts_with('.') {
                self.words.insert(name.to_owned());
                self.visit(&path);
            } else if path.extension().is_some_and(|of| of == "rs") {
                self.words.insert(name.to_owned());
                self.add_words(&path);
            } else if path.file_name().is_some_and(|name| name == "Cargo.toml") {
                self.add_package(&path);
            }
        }
    }

    fn add_words(&mut self, path: &PathBuf) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        for word in words.filter(|word| !word.is_empty()) {
            if !self.words.contains(word) {
                self.words.insert(word.to_owned());
            }
        }
    }

    fn add_package(&mut self, path: &PathBuf) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        self.packages.extend(name.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
const SQL: &str = "SELECT 1;
    SELECT 2";

/// Above.
#[derive(Debug)]
struct Pair {
    one: u8,
}

trait Session {
    fn end(
        &mut self,
    ) -> u8;
}

impl Session for Pair {
    fn end(&mut self) -> u8 {
        if self.one == 1 {
            return 2;
        }
        self.one
    }
}

fn ending() -> u8 { 1 }
"#;

    fn locate(within: Within, find: &str) -> Result<String, String> {
        let edit = Edit { file: String::new(), within, find: find.to_owned(), replace: String::new() };
        let place = edit.locate(SOURCE)?;
        Ok(SOURCE[place.start..].chars().take(12).collect())
    }

    fn item(name: &str, find: &str) -> Result<String, String> {
        locate(Within::Item(name.to_owned()), find)
    }

    #[test]
    fn a_text_is_found_once_within_items_of_a_name() {
        assert_eq!(item("SQL", "SELECT 2").as_deref(), Ok("SELECT 2\";\n\n"));
        assert_eq!(item("Pair", "Debug").as_deref(), Ok("Debug)]\nstru"), "with what stands above it");
        assert_eq!(item("end", "return").as_deref(), Ok("return 2;\n  "));
        assert_eq!(item("end", "self.one\n").as_deref(), Ok("self.one\n   "));
        assert!(item("end", "&mut self").is_err_and(|why| why.contains("2 times")));
        assert!(item("end", "ending").is_err_and(|why| why.contains("is not there")));
        assert!(item("nothing", "x").is_err_and(|why| why.contains("no function")));
        assert_eq!(item("ending", "1").as_deref(), Ok("1 }\n"));
    }

    #[test]
    fn a_text_may_be_searched_in_the_whole_file_or_behind_another() {
        assert!(locate(Within::File, "SELECT 2").is_ok());
        assert!(locate(Within::File, "SELECT").is_err());
        assert_eq!(locate(Within::After("trait Session".to_owned()), "u8").as_deref(), Ok("u8;\n}\n\nimpl "));
        assert!(locate(Within::After("Session".to_owned()), "u8").is_err(), "twice");
    }
}
