//! What `bespeak lab` is told.

use std::{path::PathBuf, time::Duration};

use bespeak::dispatch::Strategy;
use clap::Args;

use super::{scenario::Name, strategy::compared};
use crate::args::duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// Only this scenario; again for more; all where not given
    #[arg(long = "scenario", value_name = "NAME")]
    pub(super) scenarios: Vec<Name>,
    /// Only this strategy; again for more; all where not given: lanes, conditional, pessimistic, optimistic, shedlock,
    /// redlock, and unguarded, which oversells
    #[arg(long = "strategy", value_name = "NAME", value_parser = compared)]
    pub(super) strategies: Vec<Strategy>,
    /// For how long arrivals are measured in each run, such as 10s; the soak takes six times as long
    #[arg(long, default_value = "10s", value_parser = positive)]
    pub(super) duration: Duration,
    /// Start a MySQL server and three Redis nodes for the occasion (in Docker, or of this machine), and stop them at the end
    #[arg(long, conflicts_with_all = ["database_url", "redis_urls"])]
    pub(super) provide: bool,
    /// A MySQL or MariaDB server, by an account that may create databases: mysql://USER:PASSWORD@HOST:PORT. Databases named
    /// `bespeak_lab_..` are made on it and dropped [env: BESPEAK_LAB_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// Independent Redis nodes for the strategy redlock, three or more, separated by commas [env: BESPEAK_LAB_REDIS_URLS]
    #[arg(long, value_name = "URLS")]
    pub(super) redis_urls: Option<String>,
    /// Where the report goes, again for another: a page, or Markdown where the name ends with .md
    #[arg(long = "report", value_name = "FILE", default_value = "bespeak-lab.html")]
    pub(super) reports: Vec<PathBuf>,
}

/// What serves in the lab, in a process of its own: see `subject.rs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SubjectArgs {
    /// Also one that no setting chooses, because it oversells
    #[arg(value_parser = any)]
    pub(super) strategy: Strategy,
}

fn any(name: &str) -> Result<Strategy, String> {
    Strategy::named(name).ok_or_else(|| "there is no such strategy".to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|span| {
        if span >= Duration::from_millis(100) { Ok(span) } else { Err("must be at least 100ms".to_owned()) }
    })
}
