//! `bespeak verify`: audits the books, and with `--events` the event pipeline.

use std::process::ExitCode;

use bespeak::{
    app::{Access, open_store},
    config::{Config, Values},
    events::audit::{self, EventsAudit},
    store::{Audit, AuditFinding},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, counted, table},
};

/// Audits the books, and the event pipeline if `events` is true. The exit code is 1 if the audit finds something
/// wrong.
pub(crate) async fn verify(output: Output, events: bool, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store =
        open_store(&config, Access::Audit).await.map_err(|error| Failure::database(&config, &error))?;
    let books = store.audit().await;
    let pipeline = if events { Some(audit::audit(&config.events, &store).await) } else { None };
    store.close().await;
    let books = books?;
    let pipeline = pipeline
        .transpose()
        .map_err(|error| Failure::caused("the event pipeline cannot be audited", &error))?;
    let Some(pipeline) = pipeline else {
        output.print(&books, || books_text(&books))?;
        return Ok(exit_code(books.is_clean()));
    };
    output.print(&json!({"books": books, "wayOfEvents": pipeline}), || {
        format!("{}\n{}", books_text(&books), pipeline_text(&pipeline))
    })?;
    Ok(exit_code(books.is_clean() && pipeline.findings.is_empty()))
}

fn exit_code(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn books_text(audit: &Audit) -> String {
    let counts = [
        counted(audit.resources, "resource", "resources"),
        counted(audit.reservations, "reservation", "reservations"),
        counted(audit.events, "event", "events"),
    ];
    format!("{}: {}", counts.join(", "), findings(&audit.findings, "the books are consistent"))
}

fn pipeline_text(audit: &EventsAudit) -> String {
    format!(
        "{} written, {}; {} in the log, {}; {} not yet consumed: {}",
        counted(audit.events, "event", "events"),
        counted(audit.unpublished, "awaits publication", "await publication"),
        counted(audit.records, "record", "records"),
        counted(audit.repeated, "is a repetition", "are repetitions"),
        counted(audit.unconsumed, "event", "events"),
        findings(&audit.findings, "the event pipeline is consistent")
    )
}

fn findings(findings: &[AuditFinding], none: &str) -> String {
    if findings.is_empty() {
        return none.to_owned();
    }
    let mut rows = table(&["breaks", "id", "problem"]);
    for finding in findings {
        rows.add_row([finding.invariant, &finding.id, &finding.problem]);
    }
    format!("{}\n{rows}", counted(findings.len() as u64, "finding", "findings"))
}
