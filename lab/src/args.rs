//! The command line of `bespeak-lab`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::comparison::{LabArgs, SubjectArgs};

/// The lab of Bespeak: a flash-sale simulation, and a comparison of locking strategies.
#[derive(Debug, Parser)]
#[command(
    name = "bespeak",
    bin_name = "bespeak",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a flash sale against a server (without --server: one of its own) and check that the books balance.
    Simulate(SimulateArgs),
    /// Run the same load against each locking strategy in turn; report throughput, response times and duplicates.
    Lab(LabArgs),
    /// Serve in the lab (used by the lab itself).
    #[command(hide = true)]
    LabSubject(SubjectArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Buyers, each with a connection of their own
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) users: u32,
    /// Units for sale
    #[arg(long, default_value_t = 100)]
    pub(crate) stock: u64,
    /// Over how long they arrive, such as 5s or 500ms; 0s is everyone at once
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) ramp: Duration,
    /// The resource; it must not be in use. A new one where not given
    #[arg(long, short)]
    pub(crate) resource: Option<String>,
    /// How many units each buyer wants
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) quantity: u64,
    /// Which share of the winners commits, 0 to 1; the others leave their holds to expire
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub(crate) commit_share: f64,
    /// How long holds live, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) ttl: u64,
    /// What decides arrivals and commits: the same seed gives the same sale
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The server's base URL; one of its own, with a database of its own, where not given
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Where the HTML report goes
    #[arg(long, value_name = "FILE", default_value = "bespeak-simulate.html")]
    pub(crate) report: PathBuf,
    /// How long a buyer waits for an answer, such as 30s
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be 0 to 1".to_owned())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number with ms, s or m, such as 5s".to_owned();
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| *span <= Duration::from_hours(1))
        .ok_or_else(wrong)
}
