//! `bespeak stock import`: sends a CSV file of any size in parts that the server accepts. Line numbers in the report
//! are those of the file.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

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
const LINES_PER_PART: u64 = 5_000;
/// Bytes per request, for files with long lines.
const BYTES_PER_PART: usize = 1024 * 1024;
/// How many refused or changed lines the text shows. The JSON has all of them.
const LINES_SHOWN: usize = 50;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
    lines: Vec<Line>,
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

/// A part of the file: whole lines, and how many lines of the file come before them.
struct Part {
    lines_before: u64,
    lines: u64,
    body: Vec<u8>,
}

pub(super) async fn import(output: Output, args: ImportArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let csv = read(&args.file)?;
    let (parts, repeated) = split(&csv);
    let mut report = Report { dry_run: args.dry_run, ..Report::default() };
    for line in repeated {
        report.refused += 1;
        report.lines.push(line);
    }
    let progress = progress(output, parts.iter().map(|part| part.lines).sum());
    let path = format!("/api/v1/resources/import?dryRun={}", args.dry_run);
    for part in parts {
        let request = server.request(Method::POST, &path).header("Content-Type", "text/csv").body(part.body);
        let answer = server.send(request).await.map_err(|failure| {
            progress.abandon();
            let done = if args.dry_run {
                "nothing was changed".to_owned()
            } else {
                format!("the first {} lines were imported", part.lines_before)
            };
            failure.after(&done)
        })?;
        let answer: Report = serde_json::from_value(answer)
            .map_err(|error| Failure::caused("the server's report cannot be parsed", &error))?;
        report.add(answer, part.lines_before);
        progress.inc(part.lines);
    }
    progress.finish_and_clear();
    report.lines.sort_by_key(|line| line.line);
    output.print(&report, || report.text())?;
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// Splits a file between lines. The server refuses an id that it has seen earlier in the same request; an id of an
/// earlier part is refused here. Its line is sent empty, so that the line numbers in the server's report stay
/// correct.
fn split(csv: &[u8]) -> (Vec<Part>, Vec<Line>) {
    let mut parts: Vec<Part> = Vec::new();
    let mut repeated = Vec::new();
    let mut seen: HashMap<&[u8], (u64, usize)> = HashMap::new();
    for (number, line) in (1..).zip(csv.split_inclusive(|byte| *byte == b'\n')) {
        let full =
            |part: &Part| part.lines >= LINES_PER_PART || part.body.len() + line.len() > BYTES_PER_PART;
        if parts.last().is_none_or(full) {
            parts.push(Part { lines_before: number - 1, lines: 0, body: Vec::new() });
        }
        let in_part = parts.len();
        let id = line.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let earlier = if id.is_empty() || id.starts_with(b"#") { None } else { seen.get(id).copied() };
        let Some(part) = parts.last_mut() else { continue };
        part.lines += 1;
        match earlier {
            Some((first, elsewhere)) if elsewhere != in_part => {
                let id = String::from_utf8_lossy(id).into_owned();
                repeated.push(Line {
                    line: number,
                    result: "refused".to_owned(),
                    problem: Some(format!("{id} stands on line {first} already")),
                    resource_id: Some(id),
                    total_stock: None,
                    previous_total_stock: None,
                });
                part.body.push(b'\n');
            }
            _ => {
                seen.entry(id).or_insert((number, in_part));
                part.body.extend_from_slice(line);
            }
        }
    }
    (parts, repeated)
}

fn progress(output: Output, lines: u64) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(lines), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} lines, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

impl Report {
    fn add(&mut self, part: Self, lines_before: u64) {
        self.created += part.created;
        self.changed += part.changed;
        self.unchanged += part.unchanged;
        self.refused += part.refused;
        self.lines.extend(part.lines.into_iter().map(|mut line| {
            line.line += lines_before;
            line
        }));
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
                text += &format!("{rows}\n{}", rest(changes.len()));
            }
        }
        let refused = of("refused");
        if !refused.is_empty() {
            let mut rows = table(&["line", "resource", "refused because"]);
            for line in refused.iter().take(LINES_SHOWN) {
                rows.add_row([line.line.to_string(), id(line), line.problem.clone().unwrap_or_default()]);
            }
            text += &format!("{rows}\n{}", rest(refused.len()));
        }
        let done = if self.dry_run { "would be " } else { "" };
        text + &format!(
            "{done}created {}, {done}changed {}, unchanged {}, refused {}",
            self.created, self.changed, self.unchanged, self.refused
        )
    }
}

fn rest(lines: usize) -> String {
    if lines > LINES_SHOWN {
        format!("and {} more; --json lists all\n", lines - LINES_SHOWN)
    } else {
        String::new()
    }
}
