//! `bespeak lab`: puts the same load on each locking strategy in turn, and shows the effect of a lock holder that is
//! frozen.
//!
//! It receives scenarios and strategies, runs each pair against a server process with an empty database, and writes a
//! report. Never: a database that the lab did not create. Units sold twice are counted in the tables, not reported by
//! the engine. Next: `trial.rs` for one run, `frozen.rs` for the frozen holder, `report.rs` for the page.

mod args;
mod charts;
mod environment;
mod frozen;
mod markdown;
mod redis;
mod report;
mod result;
mod scenario;
mod scratch;
mod sentences;
mod servers;
mod strategy;
mod subject;
mod table;
mod trial;

use std::{fs::OpenOptions, path::Path, process::ExitCode, time::Duration};

use bespeak::dispatch::Strategy;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

pub(crate) use args::{LabArgs, SubjectArgs};
use bespeak_cli::{Failure, Output, counted};
use environment::Environment;
use frozen::Frozen;
use result::Lab;
use scenario::{Name, Scenario};
use servers::Servers;
use strategy::COMPARED;
pub(crate) use subject::serve as serve_subject;
use trial::Figures;

/// The exit code after Ctrl-C, by the convention of shells: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// About how long a step with a frozen holder takes.
const FROZEN_TAKES: Duration = Duration::from_secs(20);

/// A step of the lab. Steps run one after another.
enum Step {
    Trial(Scenario, Strategy),
    Frozen(Strategy, bool),
}

/// Runs the lab. The exit code is 0 only if no guarded strategy oversold.
pub(crate) async fn run(output: Output, args: LabArgs) -> Result<ExitCode, Failure> {
    // The crowd has 2,000 connections. If the limit cannot be raised, the server reports the failed ones.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    // A report that cannot be written fails before the measurements, which take many minutes.
    for report in &args.reports {
        can_be_written(report)?;
    }
    let strategies = all_if_none(&args.strategies, &COMPARED);
    let scenarios: Vec<_> = all_if_none(&args.scenarios, Name::value_variants())
        .into_iter()
        .map(|name| Scenario::of(name, args.duration))
        .collect();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        // If the signal handler cannot be installed, Ctrl-C ends the program at once, which is its default.
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!(
                "bespeak: stopping and reporting the results so far; press Ctrl-C again to end at once"
            );
            stopping.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED.into());
        }
    });
    let servers = Servers::find(&args, &strategies).await?;
    let lab = measure(output, &args, &servers, &scenarios, &strategies, &stop).await?;
    drop(servers);
    for report in &args.reports {
        let as_markdown = report.extension().is_some_and(|extension| extension == "md");
        write(report, &if as_markdown { markdown::text(&lab) } else { report::html(&lab)? })?;
    }
    output.print(&lab, || {
        let reports = args.reports.iter().map(|report| format!("\nreport: {}", report.display()));
        table::text(&lab) + &reports.collect::<String>()
    })?;
    Ok(match (lab.interrupted, lab.passed) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

async fn measure(
    output: Output,
    args: &LabArgs,
    servers: &Servers,
    scenarios: &[Scenario],
    strategies: &[Strategy],
    stop: &CancellationToken,
) -> Result<Lab, Failure> {
    let mut lab = Lab {
        results: Vec::new(),
        frozen_holder: Vec::new(),
        environment: Environment::describe(servers).await?,
        seconds: args.duration.as_secs_f64(),
        interrupted: false,
        broken: None,
        passed: false,
        scenarios: scenarios.to_vec(),
    };
    let steps = steps(scenarios, strategies);
    let progress = bar(output, &steps);
    for step in &steps {
        progress.set_message(step.to_string());
        match step.run(servers, stop, &mut lab).await {
            // One step that fails must not discard the figures of all others.
            Err(failure) if !lab.results.is_empty() => {
                lab.broken = Some(format!("{step}: {}", failure.message()));
                break;
            }
            ran => ran?,
        }
        if stop.is_cancelled() {
            lab.interrupted = true;
            break;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    lab.passed = lab.broken.is_none()
        && lab.results.iter().all(Figures::is_right)
        && lab.frozen_holder.iter().all(Frozen::is_right);
    Ok(lab)
}

/// All strategies of a scenario follow each other, so that the figures that are compared are measured within a few
/// minutes.
fn steps(scenarios: &[Scenario], strategies: &[Strategy]) -> Vec<Step> {
    let trials = scenarios
        .iter()
        .flat_map(|scenario| strategies.iter().map(|strategy| Step::Trial(scenario.clone(), *strategy)));
    let frozen = strategies
        .iter()
        .filter(|strategy| strategy.lock().is_some())
        .flat_map(|strategy| [false, true].map(|guarded| Step::Frozen(*strategy, guarded)));
    trials.chain(frozen).collect()
}

impl Step {
    async fn run(&self, servers: &Servers, stop: &CancellationToken, lab: &mut Lab) -> Result<(), Failure> {
        match self {
            Self::Trial(scenario, strategy) => {
                lab.results.extend(trial::run(servers, stop, *strategy, scenario).await?);
            }
            Self::Frozen(strategy, guarded) => {
                lab.frozen_holder.extend(frozen::run(servers, stop, *strategy, *guarded).await?);
            }
        }
        Ok(())
    }

    fn takes(&self) -> Duration {
        match self {
            Self::Trial(scenario, _) => scenario.takes(),
            Self::Frozen(..) => FROZEN_TAKES,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trial(scenario, strategy) => write!(f, "{}: {strategy}", scenario.name),
            Self::Frozen(strategy, true) => write!(f, "frozen holder: {strategy} with the store's guard"),
            Self::Frozen(strategy, false) => write!(f, "frozen holder: {strategy} alone"),
        }
    }
}

/// Opens a report for writing without changing its contents, which may be those of an earlier run.
fn can_be_written(report: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().append(true).create(true).open(report);
    opened.map(drop).map_err(|error| unwritable(report, &error))
}

fn write(report: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(report, text).map_err(|error| unwritable(report, &error))
}

fn unwritable(report: &Path, error: &std::io::Error) -> Failure {
    Failure::caused(format!("{} cannot be written", report.display()), error)
}

/// The values without repetitions, or all values if none is given.
fn all_if_none<T: Copy + PartialEq>(named: &[T], all: &[T]) -> Vec<T> {
    let mut chosen: Vec<T> = Vec::new();
    for one in if named.is_empty() { all } else { named } {
        if !chosen.contains(one) {
            chosen.push(*one);
        }
    }
    chosen
}

fn bar(output: Output, steps: &[Step]) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let takes: Duration = steps.iter().map(Step::takes).sum();
    let runs = counted(steps.len() as u64, "run", "runs");
    eprintln!("bespeak: {runs}, about {} s", takes.as_secs());
    let bar = ProgressBar::with_draw_target(Some(steps.len() as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
