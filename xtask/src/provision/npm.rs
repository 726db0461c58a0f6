//! Installs packages of npm, each with all that it depends on into a folder of its own in Cargo's target folder:
//! `services/NAME`.
//!
//! Node and npm come from PyPI, so that the machine needs neither. Never: a script of a package. Next: `pypi.rs`, which
//! does the same for packages of PyPI.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::pypi;
use crate::{step, target};

/// A package, and the JavaScript program in it.
#[derive(Clone, Copy)]
pub(super) struct NpmPackage {
    /// What npm calls it.
    pub(super) name: &'static str,
    version: &'static str,
    /// The folder in `services`.
    folder: &'static str,
    /// The program, in the package's folder.
    program: &'static str,
}

impl NpmPackage {
    /// A package with a program that Node runs.
    pub(super) const fn new(
        name: &'static str,
        version: &'static str,
        folder: &'static str,
        program: &'static str,
    ) -> Self {
        Self { name, version, folder, program }
    }

    fn folder(&self) -> PathBuf {
        target().join("services").join(self.folder)
    }

    fn stamp(&self) -> PathBuf {
        self.folder().join("bespeak-version")
    }

    /// Whether it is there in this version, whole.
    pub(super) fn is_there(&self) -> bool {
        // Written last, so that an installation that was cut off does not count.
        fs::read_to_string(self.stamp()).is_ok_and(|version| version == self.version)
            && self.folder().join(self.program).is_file()
    }

    /// Installs it in place of another version. Node must be there.
    pub(super) fn install(&self) -> Result<(), String> {
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let package = format!("{}@{}", self.name, self.version);
        let mut npm = pypi::npm();
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg(&package);
        step(&format!("npm install {package}"), &mut npm)?;
        let stamp = self.stamp();
        fs::write(&stamp, self.version).map_err(failed(&stamp))
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
