//! Runs the program `bespeak-lab`, which has the flash-sale simulation and the lock lab: neither belongs into a production
//! build of `bespeak`.
//!
//! The program is searched for beside this one, then on PATH. In a checkout (`cargo bespeak ..`), Cargo builds it when it is
//! first used, so that the commands of the documentation work there without an installation.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::Failure;

/// The program, on every platform without its suffix.
const PROGRAM: &str = "bespeak-lab";

/// Runs a subcommand of the lab's program and returns its exit code.
///
/// # Errors
/// The program cannot be found or started.
pub(crate) fn run(subcommand: &str, json: bool, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let mut command = match (in_a_checkout(), installed()) {
        (Some(command), _) => command,
        (None, Some(program)) => Command::new(program),
        (None, None) => {
            return Err(Failure::usage(format!(
                "`bespeak {subcommand}` needs the program {PROGRAM}, which is neither beside this one nor on PATH: \
                 install it with `cargo install --path lab`"
            )));
        }
    };
    if json {
        command.arg("--json");
    }
    command.arg(subcommand).args(arguments);
    let ended = replace_by(&mut command);
    ended.map_err(|error| Failure::caused(format!("{PROGRAM} cannot be started"), &error))
}

/// Replaces this process, so that the program receives the signals of this one, such as Ctrl-C, and its exit code is this one's.
#[cfg(unix)]
fn replace_by(command: &mut Command) -> io::Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(command))
}

/// Runs the program and waits for it.
#[cfg(not(unix))]
fn replace_by(command: &mut Command) -> io::Result<ExitCode> {
    // Ended by a signal, it has no code.
    let status = command.status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Cargo, if this process was started by `cargo run` in a checkout that has the lab.
fn in_a_checkout() -> Option<Command> {
    let cargo = env::var_os("CARGO")?;
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("../lab/Cargo.toml");
    if !manifest.is_file() {
        return None;
    }
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--profile", profile(), "--bin", PROGRAM, "--features", "provide"]);
    command.arg("--manifest-path").arg(manifest).arg("--");
    Some(command)
}

/// The profile that this program was built with, by the folder that it lies in; they share what is compiled.
fn profile() -> &'static str {
    let folder = env::current_exe().ok().and_then(|program| Some(program.parent()?.file_name()?.to_owned()));
    match folder.as_ref().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some("release") => "release",
        _ => "local",
    }
}

/// The program beside this one, or on PATH.
fn installed() -> Option<PathBuf> {
    let name = format!("{PROGRAM}{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = beside.into_iter().chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(&name)).filter(|program| program.is_file()))
}
