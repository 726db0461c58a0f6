//! Files fit into an editor, functions fit on a screen, and lines fit into a review.

use super::{
    Violations, files,
    source::{functions, tokens},
    text,
};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 120;

/// The front documents, with the largest number of bytes of each.
const DOCUMENTS: [(&str, usize); 2] = [("README.md", 8_192), ("ARCHITECTURE.md", 16_384)];

#[test]
fn files_and_functions_are_short() {
    let mut violations = Violations::default();
    for file in files(".rs") {
        let text = text(&file);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            violations.add(&file, lines, format!("{lines} lines; split it, {FILE_LINES_MAX} are allowed"));
        }
        for function in functions(&tokens(&text)) {
            if function.lines > FUNCTION_LINES_MAX {
                let (name, lines) = (function.name, function.lines);
                let what = format!("`{name}` has {lines} lines; split it, {FUNCTION_LINES_MAX} are allowed");
                violations.add(&file, function.line, what);
            }
        }
    }
    violations.assert_none("files and functions are short");
}

#[test]
fn lines_are_at_most_120_columns() {
    let mut violations = Violations::default();
    for file in files(".rs") {
        for (n, line) in text(&file).lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                violations.add(
                    &file,
                    n + 1,
                    format!("{columns} columns; break it, {COLUMNS_MAX} are allowed"),
                );
            }
        }
    }
    violations.assert_none("lines are short");
}

#[test]
fn front_documents_are_short() {
    let mut violations = Violations::default();
    for (file, most) in DOCUMENTS {
        let bytes = text(file).len();
        if bytes > most {
            violations.add(file, 1, format!("{bytes} bytes; move details to docs/, {most} are allowed"));
        }
    }
    violations.assert_none("the front documents are short");
}

#[test]
fn modules_have_one_style() {
    let all = files(".rs");
    let mut violations = Violations::default();
    for file in &all {
        let Some(folder) = file.strip_suffix(".rs").map(|stem| format!("{stem}/")) else { continue };
        if all.iter().any(|other| other.starts_with(&folder)) {
            violations.add(
                file,
                1,
                format!("there is a folder {folder} beside it; move this to {folder}mod.rs"),
            );
        }
    }
    violations.assert_none("a module with files of its own is a folder with mod.rs");
}
