//! The `bespeak` binary, as a user has it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

/// The path of the binary, built from the code under test.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "bespeak-cli",
                "--bin",
                "bespeak",
                "--features",
                "failpoints,provide",
            ])
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "the bespeak binary cannot be built");
        // This test lies in target/debug/deps.
        let test = std::env::current_exe().expect("a path");
        let folder = test.ancestors().nth(2).expect("two folders up");
        folder.join(format!("bespeak{}", std::env::consts::EXE_SUFFIX))
    })
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it said on standard error.
    pub err: String,
}

impl Ran {
    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `bespeak` with an environment that has nothing of Bespeak's but `environment`.
pub async fn bespeak(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = clean(args);
    command.envs(environment.iter().copied());
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("no panic")
        .expect("it can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// The command, in an environment without Bespeak's variables.
pub fn clean(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().contains("BESPEAK") || name.to_string_lossy().starts_with("OPENRESERVE") {
            command.env_remove(name);
        }
    }
    command
}
