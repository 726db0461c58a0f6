//! `cargo xtask docs`: writes the pages and schemas that are generated from the code.
//!
//! Never: text of its own. The programs under test print the pages; `tests/tests/all/docs.rs` compares the files with
//! them.

use std::{fs, process::Command};

use crate::{cargo, root, step, target};

/// The generated pages: the file, and the arguments of the `bespeak` that prints it.
const PAGES: [(&str, &[&str]); 4] = [
    ("docs/configuration.md", &["config", "--markdown"]),
    ("docs/api.md", &["openapi", "--markdown"]),
    ("docs/openapi.json", &["openapi"]),
    ("docs/events/asyncapi.json", &["asyncapi"]),
];

/// Builds `bespeak`, and writes what it prints.
pub(crate) fn run() -> Result<(), String> {
    // Built as for the tests, so that the two share everything.
    step("building programs", cargo().args(["test-programs", "--locked", "--quiet"]))?;
    let bespeak = target().join("debug/bespeak");
    for (file, arguments) in PAGES {
        let output = Command::new(&bespeak).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", bespeak.display()))?;
        if !output.status.success() {
            return Err(format!(
                "bespeak {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        fs::write(root().join(file), &output.stdout).map_err(|error| format!("{file}: {error}"))?;
        eprintln!("xtask: {file} is written");
    }
    let schemas = root().join("docs/events");
    step("JSON Schemas in docs/events", Command::new(&bespeak).args(["asyncapi", "--schemas"]).arg(schemas))
}
