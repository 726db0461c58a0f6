//! `bespeak simulate`: runs a flash sale against a server, and checks that the server's books balance afterwards.
//!
//! It knows the server only through its HTTP API. Next: `crowd.rs` for the buyers, `books.rs` for the check.

mod books;
mod charts;
mod crowd;
mod report;
mod sale;
mod temporary;

use std::{process::ExitCode, time::Duration};

use bespeak::config::{Config, Values};
use bespeak_lab::load::{Summary, Target, TargetError};

use crate::args::SimulateArgs;
use bespeak_cli::{Failure, Output, Server, card, counted, table};
use crowd::Crowd;
use sale::{Environment, Sale, buyers, units};
use temporary::TemporaryFolder;

/// Runs a flash sale. The exit code is 0 only if the sale passed.
pub(crate) async fn run(output: Output, args: SimulateArgs) -> Result<ExitCode, Failure> {
    // Each connection takes one file descriptor, and another one if the server is in this process.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let needed = u64::from(args.users) * if args.server.is_some() { 1 } else { 2 } + 100;
    if descriptors < needed {
        return Err(Failure::usage(format!(
            "{} users need {needed} open files, but the limit is {descriptors}: raise it (ulimit -n {needed}) or \
             lower --users",
            args.users
        )));
    }
    let Some(server) = args.server.clone() else { return on_embedded(output, args).await };
    finish(output, &args, simulate(output, &args, server, false).await?)
}

/// Runs a sale against a server in this process, with a temporary database.
async fn on_embedded(output: Output, args: SimulateArgs) -> Result<ExitCode, Failure> {
    let folder = TemporaryFolder::create()
        .map_err(|error| Failure::caused("no folder for the database can be created", &error))?;
    let database = format!("sqlite://{}", folder.path().join("simulate.db").display());
    let values = Values::collect(
        |name| match name {
            "BESPEAK_LISTEN" => Some("127.0.0.1:0".to_owned()),
            "BESPEAK_DATABASE_URL" => Some(database.clone()),
            _ => None,
        },
        |name| std::env::var(name).ok(),
    );
    let server = Server::start(&Config::parse(&values)?).await?;
    let sale = simulate(output, &args, format!("http://{}", server.address), true).await;
    server.stop().await;
    finish(output, &args, sale?)
}

async fn simulate(
    output: Output,
    args: &SimulateArgs,
    server: String,
    embedded: bool,
) -> Result<Sale, Failure> {
    let target = Target::new(&server).map_err(|error| match error {
        TargetError::Url { .. } => Failure::usage(format!("--server: {error}")),
        other => Failure::caused("the server cannot be used", &other),
    })?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let resource = args.resource.clone().unwrap_or_else(|| format!("flash-sale-{:08x}", fastrand::u32(..)));
    books::open(&target, &resource, args.stock).await?;

    let crowd = Crowd::new(args, &resource, seed);
    let ran = crowd.run(output, &target).await?;
    let books = books::read(&target, &resource, &ran.winners).await?;

    let winners_expected = u64::from(args.users).min(args.stock / args.quantity);
    let passed = ran.accepted == winners_expected && ran.errors.is_empty() && books.balance;
    Ok(Sale {
        server,
        embedded,
        resource,
        seed,
        users: args.users,
        stock: args.stock,
        quantity: args.quantity,
        ramp_ms: millis(args.ramp),
        elapsed_ms: millis(ran.elapsed),
        accepted: ran.accepted,
        refused: ran.refused,
        errors: ran.errors,
        winners_expected,
        reserve: ran.reserve.summary(ran.elapsed),
        commit: ran.commit.map(|commit| commit.summary(ran.elapsed)),
        books,
        passed,
        environment: Environment {
            version: env!("CARGO_PKG_VERSION"),
            at: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        },
        answers: ran.answers,
    })
}

fn finish(output: Output, args: &SimulateArgs, sale: Sale) -> Result<ExitCode, Failure> {
    let html = report::html(&sale)?;
    std::fs::write(&args.report, html)
        .map_err(|error| Failure::caused(format!("{} cannot be written", args.report.display()), &error))?;
    output.print(&sale, || format!("{}\nreport: {}", text(&sale), args.report.display()))?;
    Ok(if sale.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(sale: &Sale) -> String {
    let errors: u64 = sale.errors.values().sum();
    let counts = card(&[
        ("sale", format!("{}, {} of {}", buyers(sale), units(sale), sale.resource)),
        ("accepted", sale.accepted.to_string()),
        ("refused", sale.refused.to_string()),
        ("errors", errors.to_string()),
        ("answers", counts_of(&sale.reserve)),
        ("books", sale.books.text()),
    ]);
    let mut times = table(&["", "answers", "per second", "mean ms", "p50", "p95", "p99", "max"]);
    for (name, summary) in
        std::iter::once(("reserve", &sale.reserve)).chain(sale.commit.iter().map(|c| ("commit", c)))
    {
        let mut row =
            vec![name.to_owned(), summary.answers.to_string(), format!("{:.0}", summary.requests_per_second)];
        let ms = [summary.mean_ms, summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.max_ms];
        row.extend(ms.map(|ms| format!("{ms:.1}")));
        times.add_row(row);
    }
    let mut wrong: Vec<String> =
        sale.errors.iter().map(|(what, count)| format!("{count} x {what}")).collect();
    wrong.extend(sale.books.problems.iter().cloned());
    if sale.accepted != sale.winners_expected {
        wrong.push(format!(
            "{}, {} expected",
            counted(sale.accepted, "winner", "winners"),
            sale.winners_expected
        ));
    }
    let verdict = if sale.passed { "passed".to_owned() } else { format!("FAILED: {}", wrong.join("; ")) };
    format!(
        "{counts}\n{times}\n{verdict} (seed {}, {:.1} s)",
        sale.seed,
        Duration::from_millis(sale.elapsed_ms).as_secs_f64()
    )
}

/// The number of responses by status, such as `200 x 100, 409 x 1900`.
fn counts_of(summary: &Summary) -> String {
    summary.counts.iter().map(|(what, count)| format!("{what} x {count}")).collect::<Vec<_>>().join(", ")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
