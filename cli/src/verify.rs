//! `bespeak verify`: audits the books, and with `--events` the event pipeline.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::{Access, dead_letters},
    config::{Config, Values},
    events::audit::{self, EventsAudit},
    store::{Audit, AuditFinding, Database},
};
use serde_json::json;

use crate::{
    args::VerifyArgs,
    database::open,
    failure::Failure,
    output::{Output, counted, table},
};

/// Audits the books, and with `--events` the event pipeline; with `--record`, records the number of findings. The exit
/// code is 1 if the audit finds something wrong, and 2 if the database cannot be opened.
pub(crate) async fn verify(output: Output, args: &VerifyArgs, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store = open(&config, Access::Audit).await?;
    let books = store.audit().await;
    let pipeline = if args.events { Some(audit_events(&config, &store).await) } else { None };
    store.close().await;
    let books = books?;
    let pipeline = pipeline.transpose()?;
    if args.record {
        let of_pipeline = pipeline.as_ref().map_or(0, |pipeline| pipeline.findings.len());
        record(&config, (books.findings.len() + of_pipeline) as u64).await?;
    }
    let Some(pipeline) = pipeline else {
        output.print(&books, || books_text(&books))?;
        return Ok(exit_code(books.is_clean()));
    };
    output.print(&json!({"books": books, "wayOfEvents": pipeline}), || {
        format!("{}\n{}", books_text(&books), pipeline_text(&pipeline))
    })?;
    Ok(exit_code(books.is_clean() && pipeline.findings.is_empty()))
}

/// Records the number of findings. The store that audits may not write.
async fn record(config: &Config, findings: u64) -> Result<(), Failure> {
    let store = open(config, Access::Maintain).await?;
    let recorded = store.record_verification(findings).await;
    store.close().await;
    recorded.map_err(|error| Failure::caused("the result of the audit cannot be recorded", &error))
}

async fn audit_events(config: &Config, store: &Arc<dyn Database>) -> Result<EventsAudit, Failure> {
    let queue = dead_letters(config, store)?;
    let audited = audit::audit(&config.events, store, &*queue, config.retention.deliveries).await;
    audited.map_err(|error| Failure::caused("the event pipeline cannot be audited", &error))
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
