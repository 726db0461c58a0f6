//! The paths that a Rust file names, and the files that they lead to within one crate.

use std::collections::BTreeMap;

use super::{
    files,
    source::{Token, tokens, without_tests},
    text,
};

/// A path as written, with `use` groups expanded.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// The name under which a `pub use` exports it.
    exported: Option<String>,
}

/// One file of a crate, without its tests.
pub(super) struct Module {
    pub(super) file: String,
    /// The path of the module from the crate's root.
    pub(super) path: Vec<String>,
    named: Vec<Named>,
}

/// The modules of one crate.
pub(super) struct Crate {
    pub(super) modules: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
}

/// Where a path leads: the module, and the segments behind it.
pub(super) struct Target {
    pub(super) module: usize,
    pub(super) path: Vec<String>,
}

impl Crate {
    /// Reads a crate from its folder of sources.
    pub(super) fn read(folder: &str) -> Self {
        let mut modules = Vec::new();
        for file in files(".rs") {
            let Some(inner) = file.strip_prefix(folder).and_then(|rest| rest.strip_suffix(".rs")) else {
                continue;
            };
            let mut path: Vec<String> = inner.split('/').map(str::to_owned).collect();
            if path.iter().any(|part| part == "tests")
                || inner == "main" && files(".rs").contains(&format!("{folder}lib.rs"))
            {
                continue;
            }
            let is_root = path.len() == 1 && ["lib", "main"].contains(&path[0].as_str());
            if is_root || path.last().is_some_and(|last| last == "mod") {
                path.pop();
            }
            let named = named(&without_tests(&tokens(&text(&file))));
            modules.push(Module { file, path, named });
        }
        let by_path = modules.iter().enumerate().map(|(n, module)| (module.path.clone(), n)).collect();
        Self { modules, by_path }
    }

    /// What a module refers to within its crate, without its re-exports.
    pub(super) fn references(&self, module: usize) -> Vec<(Target, usize)> {
        let named = self.modules[module].named.iter().filter(|named| named.exported.is_none());
        named.filter_map(|named| Some((self.resolve(module, &named.segments, 0)?, named.line))).collect()
    }

    fn resolve(&self, from: usize, segments: &[String], depth: usize) -> Option<Target> {
        let absolute = self.absolute(&self.modules[from].path, segments)?;
        let known =
            (0..=absolute.len()).rev().find(|length| self.by_path.contains_key(&absolute[..*length]))?;
        let module = self.by_path[&absolute[..known]];
        // A re-export stands for what it exports.
        if let Some(name) = absolute.get(known)
            && depth < 8
            && let Some(exported) =
                self.modules[module].named.iter().find(|it| it.exported.as_ref() == Some(name))
            && let Some(target) = self.resolve(module, &exported.segments, depth + 1)
        {
            return Some(target);
        }
        Some(Target { module, path: absolute })
    }

    /// A path from the crate's root; none for a path into another crate.
    fn absolute(&self, from: &[String], segments: &[String]) -> Option<Vec<String>> {
        let mut base = from.to_vec();
        let mut rest = segments;
        match segments.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                let path = [from, &[child.to_owned()]].concat();
                self.by_path.get(&path)?;
            }
        }
        base.extend(rest.iter().filter(|segment| *segment != "*" && *segment != "self").cloned());
        Some(base)
    }
}

/// All paths in a file: those of `use`, and those in its code.
fn named(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows = |offset: usize, sign: char| tokens.get(at + offset).is_some_and(|token| token.is(sign));
        let within_path = at > 0 && tokens[at - 1].is(':') && at > 1 && tokens[at - 2].is(':');
        match tokens[at].word() {
            Some("use") if !follows(1, '<') => {
                let is_export = at > 0 && (tokens[at - 1].word() == Some("pub") || tokens[at - 1].is(')'));
                at += 1;
                let mut trees = Vec::new();
                at = tree(tokens, at, &[], &mut trees);
                for (segments, name, line) in trees {
                    let exported = name.filter(|_| is_export);
                    found.push(Named { segments, line, exported });
                }
            }
            Some(_) if !within_path && follows(1, ':') && follows(2, ':') => {
                let line = tokens[at].line;
                let mut segments = Vec::new();
                while let Some(word) = tokens.get(at).and_then(Token::word) {
                    segments.push(word.to_owned());
                    let goes_on = tokens.get(at + 1).is_some_and(|it| it.is(':'))
                        && tokens.get(at + 2).is_some_and(|it| it.is(':'));
                    at += if goes_on { 3 } else { 1 };
                    if !goes_on {
                        break;
                    }
                }
                found.push(Named { segments, line, exported: None });
            }
            _ => at += 1,
        }
    }
    found
}

type Tree = (Vec<String>, Option<String>, usize);

/// Expands a tree of `use` that begins at a token; returns the index behind it.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Tree>) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        if token.is('{') {
            at += 1;
            while tokens.get(at).is_some_and(|token| !token.is('}')) {
                at = tree(tokens, at, &segments, found);
                at += usize::from(tokens.get(at).is_some_and(|token| token.is(',')));
            }
            return at + 1;
        }
        if token.is('*') {
            segments.push("*".to_owned());
        } else if token.word() == Some("as") {
            let name = tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
            found.push((segments, name, line));
            return at + 2;
        } else if let Some(word) = token.word() {
            line = token.line;
            segments.push(word.to_owned());
        } else if !token.is(':') {
            break;
        }
        at += 1;
    }
    let name = segments.iter().rev().find(|segment| *segment != "self").cloned();
    found.push((segments, name, line));
    at
}

#[test]
fn use_groups_are_expanded() {
    let text = "pub(crate) use a::B;\nuse crate::{x::{self, Y as Z}, w};\nfn f() { super::g::<u8>(); }";
    let all = named(&tokens(text));
    let shown: Vec<_> = all.iter().map(|named| (named.segments.join("::"), named.exported.clone())).collect();
    let plain = |path: &str| (path.to_owned(), None);
    assert_eq!(
        shown,
        [
            ("a::B".to_owned(), Some("B".to_owned())),
            plain("crate::x::self"),
            plain("crate::x::Y"),
            plain("crate::w"),
            plain("super::g")
        ]
    );
}
