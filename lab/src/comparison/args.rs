//! The options of `bespeak lab`.

use std::{path::PathBuf, time::Duration};

use bespeak::dispatch::Strategy;
use clap::Args;

use super::{scenario::Name, strategy::compared};
use crate::duration::duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// Run only this scenario; repeat it for several [default: all]
    #[arg(long = "scenario", value_name = "NAME")]
    pub(super) scenarios: Vec<Name>,
    /// Run only this strategy; repeat it for several [default: all]. One of lanes, conditional, pessimistic,
    /// optimistic, shedlock, redlock, and unguarded, which oversells
    #[arg(long = "strategy", value_name = "NAME", value_parser = compared)]
    pub(super) strategies: Vec<Strategy>,
    /// How long arrivals are measured in each run, such as 10s; the soak takes six times as long
    #[arg(long, default_value = "10s", value_parser = positive)]
    pub(super) duration: Duration,
    /// Start a MySQL server and three Redis nodes (in Docker, or installed on this machine), and stop them at the end
    #[arg(long, conflicts_with_all = ["database_url", "redis_urls"])]
    pub(super) provide: bool,
    /// A MySQL or MariaDB server with an account that may create databases: mysql://USER:PASSWORD@HOST:PORT. The lab
    /// creates databases named bespeak_lab_.. and drops them [env: BESPEAK_LAB_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// Three or more independent Redis nodes for the strategy redlock, separated by commas [env:
    /// BESPEAK_LAB_REDIS_URLS]
    #[arg(long, value_name = "URLS")]
    pub(super) redis_urls: Option<String>,
    /// The file of the report; repeat it for several. Markdown if the name ends with .md, otherwise an HTML page
    #[arg(long = "report", value_name = "FILE", default_value = "bespeak-lab.html")]
    pub(super) reports: Vec<PathBuf>,
}

/// The options of a server under test, which runs in its own process: see `subject.rs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SubjectArgs {
    /// The strategy; also one that no setting chooses, because it oversells
    #[arg(value_parser = any)]
    pub(super) strategy: Strategy,
}

fn any(name: &str) -> Result<Strategy, String> {
    Strategy::named(name).ok_or_else(|| "is not a strategy".to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|span| {
        if span >= Duration::from_millis(100) { Ok(span) } else { Err("must be at least 100ms".to_owned()) }
    })
}
