//! Words: the ones that the style guide rules out, documentation that says something, and names of tests that state a
//! fact.

use super::{
    Violations, files,
    source::{Kind, functions, tokens, without_tests},
    text,
};

/// A word, and what to write instead.
const WORDS: [(&str, &str); 5] = [
    ("told", "name what is sent, returned or logged"),
    ("whoever", "name the caller"),
    ("nobody", "`no process`, `no client`, or make the sentence positive"),
    ("anew", "again"),
    ("way of events", "event pipeline"),
];

/// A file (or a folder, with a slash), a word that it may contain, and why.
const ALLOWED: [(&str, &str, &str); 2] = [
    ("tests/tests/all/tidy/", "", "the list itself"),
    ("CHANGELOG.md", "", "entries of released versions are not rewritten"),
];

/// The folders whose strings may contain SQL.
const SQL_ALLOWED: [(&str, &str); 6] = [
    ("shared/core/src/store/sqlite/", "the dialect of SQLite"),
    ("shared/core/src/store/mysql/", "the dialect of MySQL"),
    ("shared/core/src/store/conformance/", "keys and names that look like SQL are inputs of the suite"),
    ("lab/", "prepares databases and strategies that the product does not have"),
    ("tests/", "looks at the books from outside"),
    ("testing/", "servers and benchmarks, which are not part of the product"),
];

const SQL: [&str; 8] = [
    "SELECT ",
    "INSERT INTO ",
    "UPDATE ",
    "DELETE FROM ",
    "CREATE TABLE ",
    "DROP TABLE ",
    "BEGIN IMMEDIATE",
    "ALTER TABLE ",
];

/// Beginnings of test names that pose a riddle instead of stating a fact.
const RIDDLES: [&str; 6] = ["what_", "who_", "whoever_", "where_", "it_", "that_"];

fn contains_word(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

fn check_words(violations: &mut Violations, file: &str, line: usize, text: &str) {
    for (word, instead) in WORDS {
        let allowed =
            |(place, of, _): &(&str, &str, &str)| file.starts_with(place) && (of.is_empty() || *of == word);
        if contains_word(text, word) && !ALLOWED.iter().any(allowed) {
            violations.add(file, line, format!("\"{word}\"; {instead}"));
        }
    }
}

/// A format string without its arguments in braces, which are names and not words.
fn without_arguments(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })
        .collect()
}

#[test]
fn texts_use_standard_words() {
    let mut violations = Violations::default();
    for file in files(".md") {
        for (n, line) in text(&file).lines().enumerate() {
            check_words(&mut violations, &file, n + 1, line);
        }
    }
    for file in files(".rs") {
        for token in tokens(&text(&file)) {
            match &token.kind {
                Kind::Documentation(said, _) => check_words(&mut violations, &file, token.line, said),
                Kind::Text(said) => check_words(&mut violations, &file, token.line, &without_arguments(said)),
                _ => {}
            }
        }
    }
    violations.assert_none("documents, strings and documentation use standard words");
}

#[test]
fn documentation_has_more_than_one_word() {
    let mut violations = Violations::default();
    for file in files(".rs") {
        let tokens = tokens(&text(&file));
        let is_documentation = |at: usize| {
            tokens.get(at).is_some_and(|token| matches!(token.kind, Kind::Documentation(_, false)))
        };
        for (at, token) in tokens.iter().enumerate() {
            let alone =
                at.checked_sub(1).is_none_or(|before| !is_documentation(before)) && !is_documentation(at + 1);
            if let Kind::Documentation(said, false) = &token.kind
                && alone
                && said.split_whitespace().count() == 1
            {
                violations.add(&file, token.line, format!("\"{said}\"; say what the name does not say"));
            }
        }
    }
    violations.assert_none("a docstring has more than one word");
}

#[test]
fn sql_stays_in_the_dialects() {
    let mut violations = Violations::default();
    for file in files(".rs") {
        if SQL_ALLOWED.iter().any(|(place, _)| file.starts_with(place)) {
            continue;
        }
        for token in without_tests(&tokens(&text(&file))) {
            if let Kind::Text(said) = &token.kind
                && SQL
                    .iter()
                    .any(|verb| said.trim_start().starts_with(verb) || said.contains(&format!(" {verb}")))
            {
                violations.add(&file, token.line, "SQL; move it to shared/core/src/store/{sqlite,mysql}");
            }
        }
    }
    violations.assert_none("SQL stays in the dialects");
}

/// A plain START TRANSACTION succeeds on a MySQL server that was made read-only, and commands would be answered from
/// books that may not be current.
#[test]
fn transactions_of_mysql_are_refused_by_read_only_servers() {
    const FOLDER: &str = "shared/core/src/store/mysql/";
    let mut violations = Violations::default();
    let mut begun = 0;
    for file in files(".rs").into_iter().filter(|file| file.starts_with(FOLDER)) {
        for token in tokens(&text(&file)) {
            let Kind::Text(said) = &token.kind else { continue };
            let how = said.strip_prefix("START TRANSACTION").map(str::trim);
            begun += usize::from(how == Some("READ WRITE"));
            if how.is_some_and(|how| !matches!(how, "READ WRITE" | "WITH CONSISTENT SNAPSHOT")) {
                violations.add(
                    &file,
                    token.line,
                    "a transaction; begin it with START TRANSACTION READ WRITE",
                );
            }
        }
    }
    assert!(begun > 5, "the rule finds no transactions");
    violations.assert_none("transactions are refused by read-only servers");
}

#[test]
fn test_names_state_facts() {
    let mut violations = Violations::default();
    for file in files(".rs") {
        let text = text(&file);
        let lines: Vec<_> = text.lines().collect();
        for function in functions(&tokens(&text)) {
            let above = lines[..function.line - 1].iter().rev().take_while(|line| !line.trim().is_empty());
            let is_test =
                above.take(4).any(|line| line.trim().starts_with("#[test") || line.contains("::test"));
            let is_story = text.split_once("each_store!(").is_some_and(|(_, rest)| {
                rest.split(')').next().is_some_and(|list| contains_word(list, &function.name))
            });
            if (is_test || is_story) && RIDDLES.iter().any(|riddle| function.name.starts_with(riddle)) {
                violations.add(
                    &file,
                    function.line,
                    format!("`{}`; state the fact that it checks", function.name),
                );
            }
        }
    }
    violations.assert_none("a test is named by the fact that it checks");
}
