//! `cargo xtask mutations`: breaks the code in one place, as a row of `tests/mutations.toml` says, and checks
//! that the tests that the row names fail.
//!
//! A test that still passes does not uphold the promise that it claims to uphold. A run takes minutes for one
//! row and hours for all, because each row compiles the code twice; `--check` takes less than a second and
//! belongs to the ordinary tests.
//! Next: `catalogue.rs` for the rows, `locate.rs` for the place of a change, `edit.rs` for the change,
//! `verdict.rs` for the tests.

mod catalogue;
mod edit;
mod locate;
mod verdict;

use std::{collections::BTreeMap, path::Path, time::Instant};

use clap::Args;

use crate::{cargo, provision, root, services::Services, step};
use catalogue::Mutation;
use edit::Applied;
use verdict::{Runner, Verdict};

/// The packages whose tests need servers.
const NEEDS_SERVICES: &str = "bespeak-tests";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only rows with one of these texts in their file, function, promise, package or test
    #[arg(long, num_args = 1.., value_name = "TEXT")]
    only: Vec<String>,
    /// Print the rows
    #[arg(long, conflicts_with = "check")]
    list: bool,
    /// Check that each row still fits the code, and change nothing
    #[arg(long)]
    check: bool,
}

/// Checks, lists or applies rows of the catalogue.
///
/// # Errors
/// A row does not fit the code, a mutation was missed or does not compile, or the tests cannot be run.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let root = root();
    let rows = catalogue::read(&root)?;
    let all = rows.len();
    let rows: Vec<Mutation> = rows.into_iter().filter(|row| row.is_about(&arguments.only)).collect();
    if rows.is_empty() {
        return Err(format!("none of the {all} mutations contains {}", arguments.only.join(" or ")));
    }
    if arguments.list {
        print_rows(&rows.iter().map(|row| (String::new(), row)).collect::<Vec<_>>());
        return Ok(());
    }
    let stale = locate::stale(&root, &rows);
    for problem in &stale {
        eprintln!("{}: {problem}", catalogue::FILE);
    }
    if !stale.is_empty() {
        return Err(format!("{} of {} mutations do not fit the code", rows_of(&stale), rows.len()));
    }
    if arguments.check {
        eprintln!("xtask: {} mutations fit the code", rows.len());
        return Ok(());
    }
    apply_all(&root, &rows)
}

/// The number of different rows that problems are about.
fn rows_of(stale: &[locate::Stale]) -> usize {
    let mut rows: Vec<usize> = stale.iter().map(|stale| stale.row).collect();
    rows.dedup();
    rows.len()
}

fn apply_all(root: &Path, rows: &[Mutation]) -> Result<(), String> {
    edit::refuse_changed_files(root, rows)?;
    let packages = packages(rows);
    let services = if packages.contains_key(NEEDS_SERVICES) { Some(start_services()?) } else { None };
    let runner = Runner::new(services.as_ref())?;
    // A test that fails anyway proves nothing.
    for (package, filters) in &packages {
        runner.expect_green(package, filters)?;
    }
    let mut verdicts = Vec::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        let started = Instant::now();
        eprintln!("xtask: mutation {} of {}: {}: {}", n + 1, rows.len(), row.place(), row.upholds);
        let mut applied = Applied::new(root, row)?;
        let verdict = runner.verdict(row, &mut applied);
        applied.restore()?;
        let verdict = verdict?;
        eprintln!("xtask: {verdict} ({} s)", started.elapsed().as_secs());
        verdicts.push((verdict, row));
    }
    print_rows(&verdicts.iter().map(|(verdict, row)| (verdict.word().to_owned(), *row)).collect::<Vec<_>>());
    let count = |of: fn(&Verdict) -> bool| verdicts.iter().filter(|(verdict, _)| of(verdict)).count();
    let missed = count(|verdict| matches!(verdict, Verdict::Missed { .. }));
    let broken = count(|verdict| matches!(verdict, Verdict::DoesNotCompile));
    if missed + broken > 0 {
        return Err(format!(
            "of {} mutations, {missed} were missed and {broken} do not compile; logs are in {}",
            rows.len(),
            runner.logs().display()
        ));
    }
    eprintln!("xtask: all {} mutations were caught", rows.len());
    Ok(())
}

/// The filters that rows name, by package.
fn packages(rows: &[Mutation]) -> BTreeMap<&str, Vec<&str>> {
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (package, filters) in rows.iter().flat_map(|row| &row.tests) {
        packages.entry(package).or_default().extend(filters.iter().map(String::as_str));
    }
    for filters in packages.values_mut() {
        filters.sort_unstable();
        filters.dedup();
    }
    packages
}

fn start_services() -> Result<Services, String> {
    provision::ensure()?;
    step(
        "building what starts the servers",
        cargo().args(["build", "--quiet", "--locked", "-p", "bespeak-services", "--example", "services"]),
    )?;
    Services::start()
}

/// Prints one line per row on standard output: its number, its verdict, if there is one, its place and its promise.
#[expect(clippy::print_stdout, reason = "the table is the output of the command")]
fn print_rows(rows: &[(String, &Mutation)]) {
    let width = |cell: &dyn Fn(&(String, &Mutation)) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let (verdicts, places) = (width(&|row| row.0.len()), width(&|row| row.1.place().len()));
    // Without verdicts there is no column for them.
    let gap = if verdicts == 0 { "" } else { "  " };
    for (verdict, row) in rows {
        println!("{:3}  {verdict:verdicts$}{gap}{:places$}  {}", row.number, row.place(), row.upholds);
        if let Some(note) = &row.note {
            println!("     {:verdicts$}{gap}note: {note}", "");
        }
    }
}
