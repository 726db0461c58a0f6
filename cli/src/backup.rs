//! `bespeak backup`: copies an SQLite database while processes serve it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use bespeak::{
    app::back_up as copy,
    config::{Config, Values},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, counted},
};

/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Copies the database to `to`, and shows the progress on standard error if that is a terminal. The exit code is 1 if
/// the books, and therefore the copy, violate an invariant: the copy is kept.
pub(crate) async fn back_up(output: Output, to: &Path, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let began = Instant::now();
    let style = ProgressStyle::with_template("{spinner} {bytes} copied ({bytes_per_sec})");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let shown = tokio::spawn(progress(to.to_owned(), bar.clone()));
    let copied = copy(&config, to).await;
    shown.abort();
    bar.finish_and_clear();
    let copied = copied.map_err(|error| Failure::caused("the database cannot be copied", &error))?;
    let Some(report) = copied else {
        return Err(Failure::usage(
            "backup copies SQLite files; use the tools of your MySQL or MariaDB server for its databases",
        ));
    };
    let findings = report.audit.as_ref().map_or(0, |audit| audit.findings.len()) as u64;
    let mut result = json!({
        "file": to.display().to_string(),
        "bytes": report.bytes,
        "tookMs": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(audit) = &report.audit {
        result["resources"] = audit.resources.into();
        result["reservations"] = audit.reservations.into();
        result["findings"] = json!(audit.findings);
    }
    output.print(&result, || {
        let Some(audit) = &report.audit else {
            let file = to.display();
            return format!(
                "{file}: {} bytes: the copy is complete; its books were not audited, because their schema is that of \
                 an older version",
                report.bytes
            );
        };
        let counts = [
            counted(audit.resources, "resource", "resources"),
            counted(audit.reservations, "reservation", "reservations"),
        ];
        let checked = if findings == 0 {
            "the copy is complete, and the books in it are consistent".to_owned()
        } else {
            let findings = counted(findings, "finding", "findings");
            format!(
                "the copy is complete, and the books in it are not consistent: {findings}; see bespeak verify"
            )
        };
        format!("{}: {} bytes, {}: {checked}", to.display(), report.bytes, counts.join(", "))
    })?;
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows how large the copy is by now.
async fn progress(to: PathBuf, bar: ProgressBar) {
    let mut partial = to.into_os_string();
    partial.push(".partial");
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    loop {
        ticks.tick().await;
        if let Ok(partial) = std::fs::metadata(&partial) {
            bar.set_position(partial.len());
        }
    }
}
