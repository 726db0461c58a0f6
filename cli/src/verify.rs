//! `bespeak verify` and `bespeak migrate`: the commands that open the database themselves.

use std::process::ExitCode;

use bespeak::{
    app::{Access, open_store},
    config::{Config, Values},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, table},
};

/// Audits the books; exit code 1 where something is wrong.
pub(crate) async fn verify(output: Output, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store =
        open_store(&config, Access::Audit).await.map_err(|error| Failure::database(&config, &error))?;
    let audited = store.audit().await;
    store.close().await;
    let audit = audited?;
    output.print(&audit, || {
        let looked_at = format!(
            "{} resources, {} reservations, {} events: ",
            audit.resources, audit.reservations, audit.events
        );
        if audit.is_clean() {
            return looked_at + "the books are in order";
        }
        let mut rows = table(&["breaks", "id", "problem"]);
        for finding in &audit.findings {
            rows.add_row([finding.invariant, &finding.id, &finding.problem]);
        }
        format!("{looked_at}{} findings\n{rows}", audit.findings.len())
    })?;
    Ok(if audit.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Migrates the books.
pub(crate) async fn migrate(output: Output, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store =
        open_store(&config, Access::Serve).await.map_err(|error| Failure::database(&config, &error))?;
    let migrated = store.migrate().await;
    store.close().await;
    migrated?;
    output.print(&json!({"migrated": true}), || "the schema is this version's".to_owned())?;
    Ok(ExitCode::SUCCESS)
}
