//! The rows of `tests/mutations.toml`.

use std::{collections::BTreeMap, fs, path::Path};

use toml_edit::{DocumentMut, Item, TableLike};

/// Where the rows are.
pub(super) const FILE: &str = "tests/mutations.toml";

/// The keys of a change, and those that only the first change of a row has.
const KEYS_OF_EDIT: [&str; 5] = ["file", "function", "after", "find", "replace"];
const KEYS_OF_ROW: [&str; 4] = ["upholds", "tests", "note", "also"];

/// A row: a defect, and the tests that must notice it.
#[derive(Debug)]
pub(super) struct Mutation {
    /// The number of the row in the file, from 1.
    pub(super) number: usize,
    /// The invariant or promise that the code upholds, as one sentence.
    pub(super) upholds: String,
    /// The changes that make the defect: one, or more that only matter together.
    pub(super) edits: Vec<Edit>,
    /// By package, texts that the names of tests contain. A test must fail for each of them.
    pub(super) tests: BTreeMap<String, Vec<String>>,
    /// What a reader of the verdict must know.
    pub(super) note: Option<String>,
}

/// A change of one place in one file.
#[derive(Debug)]
pub(super) struct Edit {
    /// The file, relative to the root.
    pub(super) file: String,
    /// Where in the file the text is searched.
    pub(super) within: Within,
    /// The text that is replaced.
    pub(super) find: String,
    /// The text that takes its place.
    pub(super) replace: String,
}

/// A part of a file.
#[derive(Debug)]
pub(super) enum Within {
    /// All of it; the text must be there exactly once.
    File,
    /// All items (functions, constants, types, macros) of this name; the text must be there exactly once.
    Item(String),
    /// From this text, which must be there exactly once, to the end; the first occurrence counts.
    After(String),
}

impl Mutation {
    /// The file and function of the first change.
    pub(super) fn place(&self) -> String {
        let Some(edit) = self.edits.first() else { return String::new() };
        match &edit.within {
            Within::File => edit.file.clone(),
            Within::Item(name) => format!("{}, {name}", edit.file),
            Within::After(text) => format!("{}, {}", edit.file, text.trim().trim_end_matches(':')),
        }
    }

    /// Whether one of the texts is in the row; without texts, every row is meant.
    pub(super) fn is_about(&self, texts: &[String]) -> bool {
        let tests = self.tests.iter().flat_map(|(package, filters)| std::iter::once(package).chain(filters));
        let all: Vec<&String> =
            tests.chain(self.edits.iter().map(|edit| &edit.file)).chain([&self.upholds]).collect();
        let place = self.place();
        texts.is_empty()
            || texts.iter().any(|text| place.contains(text) || all.iter().any(|it| it.contains(text)))
    }
}

/// Reads all rows.
///
/// # Errors
/// The file cannot be read, or is not as it must be.
pub(super) fn read(root: &Path) -> Result<Vec<Mutation>, String> {
    let text = fs::read_to_string(root.join(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Mutation>, String> {
    let document: DocumentMut = text.parse().map_err(|error| format!("{FILE}: {error}"))?;
    let rows = document.get("mutation").and_then(Item::as_array_of_tables);
    let rows = rows.ok_or_else(|| format!("{FILE}: there is no [[mutation]]"))?;
    rows.iter()
        .enumerate()
        .map(|(n, row)| mutation(n + 1, row).map_err(|error| format!("{FILE}: mutation {}: {error}", n + 1)))
        .collect()
}

fn mutation(number: usize, row: &dyn TableLike) -> Result<Mutation, String> {
    let known = |key: &str| KEYS_OF_EDIT.contains(&key) || KEYS_OF_ROW.contains(&key);
    if let Some((key, _)) = row.iter().find(|(key, _)| !known(key)) {
        return Err(format!("the key {key} is unknown"));
    }
    let mut edits = vec![edit(row)?];
    for also in row.get("also").and_then(Item::as_array_of_tables).into_iter().flatten() {
        if let Some((key, _)) = also.iter().find(|(key, _)| !KEYS_OF_EDIT.contains(key)) {
            return Err(format!("the key {key} of `also` is unknown"));
        }
        edits.push(edit(also)?);
    }
    Ok(Mutation {
        number,
        upholds: required(row, "upholds")?,
        edits,
        tests: tests(row)?,
        note: text(row, "note")?,
    })
}

fn edit(row: &dyn TableLike) -> Result<Edit, String> {
    let within = match (text(row, "function")?, text(row, "after")?) {
        (None, None) => Within::File,
        (Some(name), None) => Within::Item(name),
        (None, Some(text)) => Within::After(text),
        (Some(_), Some(_)) => return Err("`function` and `after` exclude each other".to_owned()),
    };
    let edit = Edit {
        file: required(row, "file")?,
        within,
        find: required(row, "find")?,
        replace: text(row, "replace")?.ok_or("`replace` is missing")?,
    };
    if edit.find == edit.replace {
        return Err("`replace` is the same text as `find`".to_owned());
    }
    Ok(edit)
}

fn tests(row: &dyn TableLike) -> Result<BTreeMap<String, Vec<String>>, String> {
    const SHAPE: &str = "`tests` must have an array of names for each package";
    let packages = row.get("tests").and_then(Item::as_table_like).ok_or(SHAPE)?;
    let mut tests = BTreeMap::new();
    for (package, names) in packages.iter() {
        let names = names.as_array().ok_or(SHAPE)?;
        let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        let names = names.filter(|names| !names.is_empty() && names.iter().all(|name| !name.is_empty()));
        tests.insert(package.to_owned(), names.ok_or(SHAPE)?);
    }
    if tests.is_empty() { Err(SHAPE.to_owned()) } else { Ok(tests) }
}

fn required(row: &dyn TableLike, key: &str) -> Result<String, String> {
    text(row, key)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{key}` is missing or empty"))
}

fn text(row: &dyn TableLike, key: &str) -> Result<Option<String>, String> {
    match row.get(key) {
        None => Ok(None),
        Some(item) => match item.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("`{key}` must be a string")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"
[[mutation]]
upholds = "I1: stock is checked."
file = "a.rs"
function = "cover"
find = "x"
replace = ""
tests.bespeak-engine = ["one", "two"]

[[mutation.also]]
file = "b.rs"
find = "y"
replace = "z"
"#;

    #[test]
    fn a_row_is_read() {
        let rows = parse(ROW).unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.edits.len(), row.place().as_str()), (2, "a.rs, cover"));
        assert_eq!(row.tests["bespeak-engine"], ["one", "two"]);
        assert!(row.is_about(&[]) && row.is_about(&["b.rs".to_owned()]) && row.is_about(&["two".to_owned()]));
        assert!(!row.is_about(&["three".to_owned()]));
    }

    #[test]
    fn mistakes_are_reported_with_their_row() {
        for (right, wrong, expected) in [
            ("upholds", "uphold", "the key uphold is unknown"),
            ("replace = \"z\"", "replace = \"y\"", "`replace` is the same text as `find`"),
            ("find = \"x\"", "find = 7", "`find` must be a string"),
            ("[\"one\", \"two\"]", "[]", "an array of names"),
        ] {
            let error = parse(&ROW.replacen(right, wrong, 1)).unwrap_err();
            assert!(error.contains("mutation 1") && error.contains(expected), "{error}");
        }
    }
}
