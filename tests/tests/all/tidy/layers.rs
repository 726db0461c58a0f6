//! Imports point down: between the modules of the library, and between the files of every crate there is no cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violations, files, paths::Crate};

/// The modules of `shared/core`, the lowest first. A module imports only those before it.
const LAYERS: [&str; 20] = [
    "engine",
    "secret_url",
    "trace",
    "failpoint",
    "envelope",
    "telemetry",
    "supervision",
    "redis_client",
    "webhooks",
    "effects",
    "store",
    "lock",
    "dispatch",
    "coordination",
    "background",
    "events",
    "delivery",
    "http_options",
    "config",
    "app",
];

#[test]
fn modules_import_only_lower_layers() {
    let library = Crate::read("shared/core/src/");
    let layer = |name: &str| LAYERS.iter().position(|other| *other == name);
    let mut violations = Violations::default();
    for (n, module) in library.modules.iter().enumerate() {
        let Some(own) = module.path.first() else { continue };
        let Some(own_layer) = layer(own) else {
            violations.add(&module.file, 1, format!("{own} is not in LAYERS; add it where it belongs"));
            continue;
        };
        for (target, line) in library.references(n) {
            let Some(other) = target.path.first().filter(|other| *other != own) else { continue };
            if layer(other).is_some_and(|other_layer| other_layer > own_layer) {
                let what = format!(
                    "{own} imports {other}, which is above it; move the item down or pass a value in"
                );
                violations.add(&module.file, line, what);
            }
        }
    }
    violations.assert_none("modules of shared/core import only lower layers");
}

#[test]
fn files_of_a_crate_have_no_cycle() {
    let mut violations = Violations::default();
    for folder in sources() {
        let of_crate = Crate::read(&folder);
        let mut edges: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
        for n in 0..of_crate.modules.len() {
            for (target, line) in of_crate.references(n) {
                // A file may use what the root of its own folder defines: together they are one module.
                let is_own_root = of_crate.modules[n].path.starts_with(&of_crate.modules[target.module].path);
                if target.module != n && !is_own_root {
                    edges.entry(n).or_default().entry(target.module).or_insert(line);
                }
            }
        }
        let reached: Vec<BTreeSet<usize>> =
            (0..of_crate.modules.len()).map(|n| reachable(&edges, n)).collect();
        for (from, targets) in &edges {
            for (to, line) in targets {
                if reached[*to].contains(from) {
                    let (file, other) = (&of_crate.modules[*from].file, &of_crate.modules[*to].file);
                    violations.add(
                        file,
                        *line,
                        format!("in a cycle: it imports {other}, which leads back to it"),
                    );
                }
            }
        }
    }
    violations.assert_none("files of a crate have no cycle");
}

/// The folders of sources of all crates.
fn sources() -> BTreeSet<String> {
    let roots = ["src/lib.rs", "src/main.rs"];
    files(".rs")
        .iter()
        .filter_map(|file| roots.iter().find_map(|root| file.strip_suffix(root)))
        .map(|folder| format!("{folder}src/"))
        .collect()
}

fn reachable(edges: &BTreeMap<usize, BTreeMap<usize, usize>>, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for to in edges.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}
