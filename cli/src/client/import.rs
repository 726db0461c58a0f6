//! `bespeak stock import`: reads a CSV file of any size by the rules of the API, and sends what is valid in parts that
//! the server accepts. Line numbers in the report are those of the file.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use bespeak::engine::Limits;
use bespeak_http::{ImportLine, ImportLines};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::http::Server;
use crate::{
    args::ImportArgs,
    failure::Failure,
    output::{Output, table},
};

/// Lines per request: far below the server's limit of 4 MiB, and often enough to show progress.
const LINES_PER_PART: usize = 5_000;
/// How many refused lines the report lists, and likewise of created and changed ones, as the server's does.
const LINES_LISTED: usize = 1_000;
/// How many refused or changed lines the text shows. The JSON has all that the report lists.
const LINES_SHOWN: usize = 50;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
    #[serde(default)]
    skipped: u64,
    lines: Vec<Line>,
    #[serde(default)]
    omitted: u64,
    #[serde(skip)]
    refusals_listed: usize,
    #[serde(skip)]
    changes_listed: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    line: u64,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_stock: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_total_stock: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Valid lines of the file, as the body of a request.
#[derive(Default)]
struct Part {
    /// The number in the file of each line of the body.
    numbers: Vec<u64>,
    body: String,
}

pub(super) async fn import(output: Output, args: ImportArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let csv = read(&args.file)?;
    let mut report = Report { dry_run: args.dry_run, ..Report::default() };
    let progress = progress(output, csv.len() as u64);
    let path = format!("/api/v1/resources/import?dryRun={}", args.dry_run);
    // The server has limits of its own, and refuses what exceeds them.
    let limits = Limits::default();
    let mut lines = ImportLines::of(&csv, &limits);
    loop {
        let part = next_part(&mut lines, &mut report);
        if part.numbers.is_empty() {
            break;
        }
        let request = server.request(Method::POST, &path).header("Content-Type", "text/csv").body(part.body);
        let answer: Report = server.send(request).await.map_err(|failure| {
            progress.abandon();
            let done = if args.dry_run {
                "nothing was changed".to_owned()
            } else {
                format!("what is before line {} was imported", part.numbers[0])
            };
            failure.after(&done)
        })?;
        report.add(answer, &part.numbers);
        progress.set_position((csv.len() - lines.rest().len()) as u64);
    }
    progress.finish_and_clear();
    report.finish();
    output.print(&report, || report.text())?;
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads valid lines until a part is full. Refuses the lines between them that are not valid.
fn next_part(lines: &mut ImportLines<'_>, report: &mut Report) -> Part {
    let mut part = Part::default();
    while part.numbers.len() < LINES_PER_PART {
        match lines.next() {
            None => break,
            Some((_, ImportLine::Nothing)) => report.skipped += 1,
            Some((number, ImportLine::Total(define))) => {
                part.numbers.push(number);
                part.body += &format!("{},{}\n", define.resource_id, define.total);
            }
            Some((line, ImportLine::Wrong { resource_id, problem })) => {
                report.refused += 1;
                report.list(Line {
                    line,
                    result: "refused".to_owned(),
                    resource_id,
                    total_stock: None,
                    previous_total_stock: None,
                    problem: Some(problem),
                });
            }
        }
    }
    part
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut csv = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut csv).map(|_| csv)
    } else {
        fs::read(path)
    };
    read.map_err(|error| Failure::caused(format!("{} cannot be read", path.display()), &error))
}

fn progress(output: Output, bytes: u64) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

impl Report {
    /// Adds the server's report on a part whose lines have these numbers in the file.
    fn add(&mut self, part: Self, numbers: &[u64]) {
        self.created += part.created;
        self.changed += part.changed;
        self.unchanged += part.unchanged;
        self.refused += part.refused;
        for mut line in part.lines {
            let place = usize::try_from(line.line).ok().and_then(|line| line.checked_sub(1));
            line.line = place.and_then(|place| numbers.get(place)).copied().unwrap_or(line.line);
            self.list(line);
        }
    }

    /// Lists a line, unless enough of its kind are listed. Parts come in order, so the first lines are listed.
    fn list(&mut self, line: Line) {
        let is_refused = line.result == "refused";
        let listed = if is_refused { &mut self.refusals_listed } else { &mut self.changes_listed };
        if *listed < LINES_LISTED {
            *listed += 1;
            self.lines.push(line);
        }
    }

    fn finish(&mut self) {
        self.lines.sort_by_key(|line| line.line);
        self.omitted = self.refused + self.created + self.changed - self.lines.len() as u64;
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let of = |result: &str| self.lines.iter().filter(|line| line.result == result).collect::<Vec<_>>();
        let id = |line: &Line| line.resource_id.clone().unwrap_or_default();
        if self.dry_run {
            let mut rows = table(&["line", "resource", "total"]);
            let mut changes = of("created");
            changes.extend(of("changed"));
            changes.sort_by_key(|line| line.line);
            for line in changes.iter().take(LINES_SHOWN) {
                let total = line.total_stock.unwrap_or(0);
                let change = match line.previous_total_stock {
                    Some(before) => format!("~ {before} -> {total}"),
                    None => format!("+ {total}"),
                };
                rows.add_row([line.line.to_string(), id(line), change]);
            }
            if !changes.is_empty() {
                text += &format!("{rows}\n{}", rest(self.created + self.changed));
            }
        }
        let refused = of("refused");
        if !refused.is_empty() {
            let mut rows = table(&["line", "resource", "refused because"]);
            for line in refused.iter().take(LINES_SHOWN) {
                rows.add_row([line.line.to_string(), id(line), line.problem.clone().unwrap_or_default()]);
            }
            text += &format!("{rows}\n{}", rest(self.refused));
        }
        let done = if self.dry_run { "would be " } else { "" };
        text + &format!(
            "{done}created {}, {done}changed {}, unchanged {}, refused {}",
            self.created, self.changed, self.unchanged, self.refused
        )
    }
}

fn rest(lines: u64) -> String {
    match lines.saturating_sub(LINES_SHOWN as u64) {
        0 => String::new(),
        more => format!("and {more} more; --json lists the first {LINES_LISTED}\n"),
    }
}
