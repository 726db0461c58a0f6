//! `cargo xtask lambda build | watch | events | invoke`: what is deployed, and the functions on a laptop.
//!
//! Never: a deployment; `sam` does that, from `template.yaml`, with the same builder. Next: `provision.rs`, which has the tools.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Subcommand;

use crate::{cargo, provision, root, step, target};

/// Package and program of each function.
const FUNCTIONS: [(&str, &str); 3] =
    [("bespeak-reserve", "reserve"), ("bespeak-relay-cron", "relay-cron"), ("bespeak-consumer", "consumer")];
/// What Lambda runs on, and Rust's name for it.
const ARCHITECTURES: [(&str, &str); 2] =
    [("x86-64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")];
/// What a function's zip may have at the most, in bytes: it is fetched at a cold start.
const ZIP_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Build the zips of all functions into target/lambda, for x86-64, and for arm64 where its target is installed
    Build,
    /// Run the functions here, built when they are first invoked: `cargo lambda invoke reserve --data-file events/..`
    Watch {
        /// Passed on to `cargo lambda watch`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What Lambda does around them: `consumer` with what the topic of BESPEAK_EVENTS_URL has, `relay-cron` by a schedule
    Events {
        /// Where `cargo lambda watch` takes invocations
        #[arg(long, default_value = "127.0.0.1:9000")]
        address: String,
        /// Seconds from one invocation of `relay-cron` to the next
        #[arg(long, default_value_t = 60)]
        every: u32,
    },
    /// `cargo lambda invoke`, with the same tools
    Invoke {
        /// Passed on to `cargo lambda invoke`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

pub(crate) fn run(order: Order) -> Result<(), String> {
    provision::ensure()?;
    match order {
        Order::Build => build(),
        Order::Watch { arguments } => replaced_by(cargo_lambda("watch")?.args(arguments)),
        Order::Events { address, every } => replaced_by(
            cargo()
                .args(["run", "--quiet", "--locked", "--package", "bespeak-event-source", "--"])
                .args([address, every.to_string()]),
        ),
        Order::Invoke { arguments } => replaced_by(cargo_lambda("invoke")?.args(arguments)),
    }
}

/// Builds the functions for this machine's kind, as they are deployed; the folder of their programs.
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
                "xtask: left out: {architecture} (its target is not installed: rustup target add {triple})"
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
        Some((zip, _)) => Err(format!("{} is larger than {} MiB", zip.display(), ZIP_BYTES_MAX >> 20)),
        None => Ok(()),
    }
}

/// The zips of an architecture, and their sizes in bytes.
fn build_for(architecture: &str) -> Result<Vec<(PathBuf, u64)>, String> {
    let folder = target().join("lambda").join(architecture);
    let mut zips = Vec::new();
    for (package, program) in FUNCTIONS {
        // One by one, so that each has the back ends that it needs, and no others.
        step(
            &format!("{program} for {architecture}"),
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

/// Whether Rust has the standard library of a target.
fn is_installed(triple: &str) -> bool {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let asked = rustc.args(["--print", "target-libdir", "--target", triple]).output();
    asked.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// `cargo lambda`, which finds Zig beside it: Zig links against the C library that Lambda has, whatever this machine's is.
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

/// In the place of this process, so that the terminal and its signals are the command's.
fn replaced_by(command: &mut Command) -> Result<(), String> {
    let failed = command.exec();
    Err(format!("cargo lambda cannot be run: {failed}"))
}
