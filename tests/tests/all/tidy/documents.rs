//! Each path that a document or a docstring names exists, and each link leads somewhere.

use std::collections::BTreeSet;

use super::{
    Violations, files,
    source::{Kind, tokens},
    text,
};

/// Endings of files that a text names without their folder.
const ENDINGS: [&str; 12] =
    [".rs", ".md", ".toml", ".yaml", ".yml", ".json", ".sql", ".js", ".sh", ".py", ".svg", ".example"];

/// Documents that describe the past, with paths that existed then.
const PAST: [&str; 1] = ["CHANGELOG.md"];

/// Names that look like files of the repository and are not: users' files, and files of other projects.
const FOREIGN: [&str; 0] = [];

struct Tree {
    files: Vec<String>,
    folders: BTreeSet<String>,
    top: BTreeSet<String>,
}

impl Tree {
    fn read() -> Self {
        let files = files("");
        let mut folders = BTreeSet::new();
        for file in &files {
            let mut rest = file.as_str();
            while let Some((folder, _)) = rest.rsplit_once('/') {
                folders.insert(folder.to_owned());
                rest = folder;
            }
        }
        let top = files.iter().filter_map(|file| Some(file.split_once('/')?.0.to_owned())).collect();
        Self { files, folders, top }
    }

    /// Whether a text between backticks is meant as a path of the repository.
    fn is_path(&self, text: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
        let first = text.split('/').next().unwrap_or_default();
        !text.starts_with('/')
            && text.chars().all(plain)
            && (ENDINGS.iter().any(|ending| text.ends_with(ending) && text.len() > ending.len())
                || text.contains('/') && self.top.contains(first))
    }

    /// Whether it exists: from the root, or as the end of the path of a file or a folder.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/').trim_start_matches("./");
        let end = format!("/{path}");
        let is_it = |other: &String| other == path || other.ends_with(&end);
        self.files.iter().any(is_it) || self.folders.iter().any(is_it)
    }
}

/// `a/{b,c}/d` as `a/b/d` and `a/c/d`.
fn alternatives(path: &str) -> Vec<String> {
    let parts = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (inside, after))) = parts else { return vec![path.to_owned()] };
    inside.split(',').flat_map(|one| alternatives(&format!("{before}{}{after}", one.trim()))).collect()
}

/// The texts between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn check_paths(tree: &Tree, violations: &mut Violations, file: &str, number: usize, line: &str) {
    for path in quoted(line).filter(|text| tree.is_path(text) && !FOREIGN.contains(text)) {
        for path in alternatives(path).iter().filter(|path| !tree.has(path)) {
            violations.add(file, number, format!("there is no {path}; name a path that exists"));
        }
    }
}

/// The lines of a document with their numbers, without blocks of code.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut within = false;
    let numbered = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    numbered
        .filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            within ^= is_fence;
            !within && !is_fence
        })
        .collect()
}

#[test]
fn named_paths_exist() {
    let tree = Tree::read();
    let mut violations = Violations::default();
    for file in files(".md").iter().filter(|file| !PAST.contains(&file.as_str())) {
        for (number, line) in prose(&text(file)) {
            check_paths(&tree, &mut violations, file, number, line);
        }
    }
    for file in files(".rs") {
        for token in tokens(&text(&file)) {
            if let Kind::Documentation(line, _) = &token.kind {
                check_paths(&tree, &mut violations, &file, token.line, line);
            }
        }
    }
    violations.assert_none("paths in documents and documentation exist");
}

#[test]
fn links_lead_somewhere() {
    let tree = Tree::read();
    let mut violations = Violations::default();
    for file in files(".md") {
        let text = text(&file);
        for (number, line) in prose(&text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if let Some(missing) = missing(&tree, &file, target) {
                    violations.add(&file, number, missing);
                }
            }
        }
    }
    violations.assert_none("links of documents lead somewhere");
}

/// What is wrong about a link from a document.
fn missing(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { from.to_owned() } else { joined(from, path)? };
    if !tree.files.contains(&file) && !tree.folders.contains(&file) {
        return Some(format!("there is no {file}; link to a file that exists"));
    }
    if anchor.is_empty() || std::path::Path::new(&file).extension().is_none_or(|extension| extension != "md")
    {
        return None;
    }
    let anchors = anchors(&text(&file));
    (!anchors.contains(anchor)).then(|| format!("{file} has no heading #{anchor}, but {anchors:?}"))
}

/// A relative path from the folder of a document.
fn joined(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that GitHub makes of headings: lower case, no punctuation, hyphens for spaces, a number for repetitions.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if !(line.starts_with('#') && heading.starts_with(' ')) {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let slug: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let repeated = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone()).chain(repeated).find(|it| !anchors.contains(it));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn paths_and_anchors_are_recognised() {
    let tree = Tree::read();
    for path in ["cli/src/main.rs", "store/{sqlite,mysql}", "docs/adr"] {
        assert!(alternatives(path).iter().all(|path| tree.has(path)), "{path}");
    }
    assert!(tree.is_path("cli/nowhere") && !tree.has("cli/nowhere"));
    assert!(!tree.is_path("application/json") && !tree.is_path("/api/v1/reserve"));
    assert_eq!(anchors("# A `b` c!\n## A b c\n"), ["a-b-c", "a-b-c-1"].map(str::to_owned).into());
    assert_eq!(joined("docs/adr/README.md", "../design/http.md").as_deref(), Some("docs/design/http.md"));
}
