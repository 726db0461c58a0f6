//! The command line of `bespeak-lab`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

#[cfg(feature = "comparison")]
use crate::comparison::{LabArgs, SubjectArgs};
use crate::duration::duration;

/// The lab of Bespeak: a flash-sale simulation, and a comparison of locking strategies.
#[derive(Debug, Parser)]
#[command(
    name = "bespeak",
    bin_name = "bespeak",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands of `bespeak` that this program has.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a flash sale against a server and check that the books balance
    ///
    /// Buyers connect, arrive at random times within the ramp, and try to hold units; a share of the winners commits.
    /// Without
    /// --server, the simulation starts its own server with an empty database. The exit code is 0 only if exactly as
    /// many buyers won as the stock allows, no request failed, and the books balance.
    #[command(after_help = "\
Examples:
  bespeak simulate
  bespeak simulate --ramp 0s --users 5000 --stock 100
  bespeak simulate --server http://127.0.0.1:8080 --commit-share 1")]
    Simulate(SimulateArgs),
    /// Run the same load against each locking strategy in turn; report throughput, response times and units sold
    /// twice
    ///
    /// Each run has its own server process and its own database. Strategies with a lock also run with a lock holder
    /// that is frozen past its lease. The exit code is 0 only if no guarded strategy oversold.
    #[command(after_help = "\
Examples:
  bespeak lab --provide
  bespeak lab --provide --scenario crowd --strategy lanes --strategy unguarded
  bespeak lab --database-url mysql://root:PASSWORD@127.0.0.1:3306 --strategy lanes --report lab.md")]
    #[cfg(feature = "comparison")]
    Lab(LabArgs),
    /// Run a server under test; the lab starts itself with this command
    #[cfg(feature = "comparison")]
    #[command(hide = true)]
    LabSubject(SubjectArgs),
}

/// The options of `bespeak simulate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The number of buyers; each has its own connection
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) users: u32,
    /// The number of units for sale
    #[arg(long, default_value_t = 100)]
    pub(crate) stock: u64,
    /// The time over which buyers arrive, such as 5s or 500ms; with 0s, all arrive at once
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) ramp: Duration,
    /// The resource to sell; none of its units may be in use [default: a new resource]
    #[arg(long, short)]
    pub(crate) resource: Option<String>,
    /// The number of units that each buyer wants
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) quantity: u64,
    /// The share of winners who commit, 0 to 1; the others let their holds expire
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub(crate) commit_share: f64,
    /// The time to live of the holds, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) ttl: u64,
    /// The seed of arrivals and commits; the same seed repeats the same sale [default: random]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The server's base URL [default: the simulation starts its own server]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The file of the HTML report
    #[arg(long, value_name = "FILE", default_value = "bespeak-simulate.html")]
    pub(crate) report: PathBuf,
    /// How long a buyer waits for a response, such as 30s
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}
