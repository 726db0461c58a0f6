//! The benchmarks. `cargo xtask bench` builds this with the release profile and runs it.
//!
//! Each ratio is measured within one run, because machines differ and are noisy: the report contains each
//! figure together with its base. The load generator shares the machine's cores with the server, and the
//! report says so.
//!
//! Next: `cases.rs`, the table of cases.

mod bench;
mod cases;
mod chart;
mod client;
mod coordination;
mod embedded;
mod engine;
mod environment;
mod events;
mod functions;
mod lab;
mod mysql;
mod report;
mod server;

use std::{path::PathBuf, process::ExitCode, sync::OnceLock, time::Duration};

use bench::Bench;
use cases::Session;
use clap::Parser;

/// Measure Bespeak, and compare it with alternatives
#[derive(Clone, Debug, Parser)]
#[command(name = "bespeak-bench", about)]
struct Args {
    /// Run only the cases whose name contains this text
    #[arg(long)]
    only: Option<String>,
    /// The length of a measurement in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// The number of rounds of each measurement; the report contains medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The file for the Markdown report, which is printed by default
    #[arg(long)]
    report: Option<PathBuf>,
    /// The `bespeak` binary
    #[arg(long, default_value = "target/release/bespeak")]
    binary: PathBuf,
    /// The folder with the programs of the Lambda functions
    #[arg(long, default_value = "target/functions/release")]
    functions: PathBuf,
    /// Serve the echo route and nothing else (used by the benchmark itself)
    #[arg(long, hide = true)]
    echo: bool,
    /// Serve the hand-written transaction and nothing else (used by the benchmark itself)
    #[arg(long, hide = true)]
    handwritten: bool,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Lambda starts a function without arguments.
    let bare = std::env::var_os(functions::BARE).is_some();
    let args = if bare { Args::parse_from(["bespeak-bench"]) } else { Args::parse() };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async { if bare { functions::bare().await } else { run(args).await } });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Error> {
    // A thousand connections need more descriptors than most shells allow by default.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if args.echo {
        return server::echo().await;
    }
    if args.handwritten {
        return mysql::handwritten::serve().await;
    }
    // Fails now, and not after the measurements, if the folder cannot be created.
    if let Some(folder) = args.report.as_ref().and_then(|path| path.parent()) {
        std::fs::create_dir_all(folder)?;
    }
    let session = Session::new(Bench {
        binary: args.binary.clone(),
        functions: args.functions.clone(),
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(args.seconds),
        rounds: args.rounds.max(1),
        broker: OnceLock::new(),
    });
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut sections = Vec::new();
    for case in cases::ALL {
        if wanted(case.name) {
            eprintln!("bench: measuring {}", case.name);
            sections.push((case.run)(&session).await?);
        }
    }
    let mut environment = environment::describe()?;
    if let Some(database) = session.started_database() {
        environment += &format!("- {}\n", database.describe().await?);
    }
    if let Some(broker) = session.bench.broker.get() {
        environment += &format!("- {broker}\n");
    }
    let stem = args.report.as_ref().and_then(|path| path.file_stem()?.to_str());
    let text = report::markdown(&environment, &command_line(&args), &sections, stem);
    let (Some(path), Some(stem)) = (&args.report, stem) else {
        report::print(&text);
        return Ok(());
    };
    std::fs::write(path, text)?;
    for section in &sections {
        if let Some(chart) = &section.chart {
            std::fs::write(path.with_file_name(report::chart_file(stem, section.title)), chart.svg()?)?;
        }
    }
    eprintln!("bench: wrote {}", path.display());
    Ok(())
}

/// The command that reproduces the run, for the report.
fn command_line(args: &Args) -> String {
    let only = args.only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
    format!("cargo xtask bench --seconds {} --rounds {}{only}", args.seconds, args.rounds)
}
