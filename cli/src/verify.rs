//! `bespeak verify` and `bespeak migrate`: the commands that open the database themselves.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::{Access, create_database, open_store},
    config::{Config, Values},
    store::{Audit, Database, Finding},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, table},
};

/// Audits the books; exit code 1 where something is wrong.
///
/// With `events`, the way of events is audited as well.
pub(crate) async fn verify(output: Output, events: bool, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store =
        open_store(&config, Access::Audit).await.map_err(|error| Failure::database(&config, &error))?;
    let audited = store.audit().await;
    let way = if events { Some(bespeak::events::audit::audit(&config, &store).await) } else { None };
    store.close().await;
    let audit = audited?;
    let way =
        way.transpose().map_err(|error| Failure::caused("the way of events cannot be audited", &error))?;
    let Some(way) = way else {
        output.print(&audit, || books(&audit))?;
        return Ok(code(audit.is_clean()));
    };
    output.print(&json!({"books": audit, "wayOfEvents": way}), || {
        let looked_at = format!(
            "{} events written, {} await publication; {} records in the log, {} of them repeated; {} not yet consumed: ",
            way.events, way.unpublished, way.records, way.repeated, way.unconsumed
        );
        format!("{}\n{looked_at}{}", books(&audit), findings(&way.findings, "the way of events is in order"))
    })?;
    Ok(code(audit.is_clean() && way.findings.is_empty()))
}

fn code(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn books(audit: &Audit) -> String {
    let looked_at = format!(
        "{} resources, {} reservations, {} events: ",
        audit.resources, audit.reservations, audit.events
    );
    looked_at + &findings(&audit.findings, "the books are in order")
}

fn findings(findings: &[Finding], none: &str) -> String {
    if findings.is_empty() {
        return none.to_owned();
    }
    let mut rows = table(&["breaks", "id", "problem"]);
    for finding in findings {
        rows.add_row([finding.invariant, &finding.id, &finding.problem]);
    }
    format!("{} findings\n{rows}", findings.len())
}

/// Opens a database that is there, to look after it. What it must hold, this version has made.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Database>, Failure> {
    open_store(config, Access::Maintain).await.map_err(|error| Failure::database(config, &error))
}

/// Migrates the books.
pub(crate) async fn migrate(output: Output, create: bool, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let created = if create {
        create_database(&config).await.map_err(|error| Failure::database(&config, &error))?
    } else {
        false
    };
    let store =
        open_store(&config, Access::Serve).await.map_err(|error| Failure::database(&config, &error))?;
    let migrated = store.migrate().await;
    store.close().await;
    migrated?;
    output.print(&json!({"migrated": true, "created": created}), || {
        let created = if created { "the database was created; " } else { "" };
        format!("{created}the schema is this version's")
    })?;
    Ok(ExitCode::SUCCESS)
}
