//! `cargo xtask lambda build | watch | events | invoke`: builds the zips of the functions, and runs the
//! functions locally.
//!
//! Never: a deployment, which is the task of `sam` with `template.yaml` and the same builder.
//! Next: `provision/`, which installs the tools.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Subcommand;

use crate::{cargo, provision, root, step, target};

/// The package and the program of each function.
const FUNCTIONS: [(&str, &str); 3] =
    [("bespeak-reserve", "reserve"), ("bespeak-relay-cron", "relay-cron"), ("bespeak-consumer", "consumer")];
/// The architectures of Lambda, each with Rust's name of the target.
const ARCHITECTURES: [(&str, &str); 2] =
    [("x86-64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")];
/// The size limit of a function's zip in bytes. Lambda fetches the zip at a cold start.
const ZIP_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum LambdaCommand {
    /// Build the zips of all functions into target/lambda, for each of x86-64 and arm64 whose Rust target is installed
    Build,
    /// Run the functions on this machine; each is built at its first invocation
    ///
    /// Invoke them with `cargo xtask lambda invoke reserve --data-file events/..`.
    Watch {
        /// Arguments for `cargo lambda watch`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Invoke the running functions as AWS does: `consumer` for the topic of BESPEAK_EVENTS_URL, `relay-cron`
    /// on a schedule
    Events {
        /// The address at which `cargo lambda watch` accepts invocations
        #[arg(long, default_value = "127.0.0.1:9000")]
        address: String,
        /// The interval between invocations of `relay-cron` in seconds
        #[arg(long, default_value_t = 60)]
        every: u32,
    },
    /// Run `cargo lambda invoke` with the same tools
    Invoke {
        /// Arguments for `cargo lambda invoke`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

pub(crate) fn run(command: LambdaCommand) -> Result<(), String> {
    provision::ensure()?;
    match command {
        LambdaCommand::Build => build(),
        LambdaCommand::Watch { arguments } => replace_process(cargo_lambda("watch")?.args(arguments)),
        LambdaCommand::Events { address, every } => replace_process(
            cargo()
                .args(["run", "--quiet", "--locked", "--package", "bespeak-event-source", "--"])
                .args([address, every.to_string()]),
        ),
        LambdaCommand::Invoke { arguments } => replace_process(cargo_lambda("invoke")?.args(arguments)),
    }
}

/// Builds the functions for this machine's architecture, as for a deployment. Returns the folder with their programs.
pub(crate) fn build_for_this_machine() -> Result<PathBuf, String> {
    let (architecture, triple) =
        if cfg!(target_arch = "aarch64") { ARCHITECTURES[1] } else { ARCHITECTURES[0] };
    build_for(architecture)?;
    Ok(target().join(triple).join("release"))
}

fn build() -> Result<(), String> {
    let mut sizes = Vec::new();
    for (architecture, triple) in ARCHITECTURES {
        if is_installed(triple) {
            sizes.extend(build_for(architecture)?);
        } else {
            eprintln!(
                "xtask: skipped {architecture}: its target is not installed (rustup target add {triple})"
            );
        }
    }
    for (zip, bytes) in &sizes {
        // Far below 2^52 bytes.
        #[expect(clippy::cast_precision_loss)]
        let mib = *bytes as f64 / (1024.0 * 1024.0);
        eprintln!("xtask: {mib:5.2} MiB  {}", zip.display());
    }
    match sizes.iter().find(|(_, bytes)| *bytes > ZIP_BYTES_MAX) {
        Some((zip, _)) => Err(format!("{} must be at most {} MiB", zip.display(), ZIP_BYTES_MAX >> 20)),
        None => Ok(()),
    }
}

/// Builds the zips for an architecture and returns them with their sizes in bytes.
fn build_for(architecture: &str) -> Result<Vec<(PathBuf, u64)>, String> {
    let folder = target().join("lambda").join(architecture);
    let mut zips = Vec::new();
    for (package, program) in FUNCTIONS {
        // Each in its own build, so that each contains only the features that it needs.
        step(
            &format!("building {program} for {architecture}"),
            cargo_lambda("build")?
                .args(["--release", "--locked", "--quiet", "--output-format", "zip"])
                .args(["--package", package, "--bin", program])
                .arg(format!("--{architecture}"))
                .arg("--lambda-dir")
                .arg(&folder),
        )?;
        let zip = folder.join(program).join("bootstrap.zip");
        let bytes = fs::metadata(&zip).map_err(|error| format!("{}: {error}", zip.display()))?.len();
        zips.push((zip, bytes));
    }
    Ok(zips)
}

/// Whether Rust's standard library is installed for a target.
fn is_installed(triple: &str) -> bool {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = rustc.args(["--print", "target-libdir", "--target", triple]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// A command of `cargo lambda`, with Zig on its PATH. Zig links against the C library of Lambda, whatever
/// this machine has.
fn cargo_lambda(subcommand: &str) -> Result<Command, String> {
    let tools = target().join("services");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        [tools.join("cargo-lambda").join("bin"), tools.join("ziglang").join("ziglang")]
            .into_iter()
            .chain(env::split_paths(&path))
            .collect();
    let path = env::join_paths(folders).map_err(|error| format!("PATH: {error}"))?;
    let mut command = cargo();
    command.current_dir(root()).env("PATH", path).args(["lambda", subcommand]);
    Ok(command)
}

/// Replaces this process with the command, so that the command gets the terminal and its signals.
fn replace_process(command: &mut Command) -> Result<(), String> {
    let failed = command.exec();
    Err(format!("{} cannot be run: {failed}", command.get_program().display()))
}
