//! Opens the database for `serve` and the operators' commands; `bespeak migrate`.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::{Access, create_database, open_store},
    config::{Config, Values},
    store::Database,
};
use serde_json::json;

use crate::{failure::Failure, output::Output};

/// Opens a database: it answers, and this version may run on its schema.
pub(crate) async fn open(config: &Config, access: Access) -> Result<Arc<dyn Database>, Failure> {
    let failed = |error| Failure::database(config, &error);
    let store = open_store(config, access).await.map_err(failed)?;
    store.check_schema().await.map_err(failed)?;
    Ok(store)
}

/// Brings the schema of the database to this version, and creates the database first if `create` is true.
pub(crate) async fn migrate(output: Output, create: bool, values: Values) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let created = if create {
        create_database(&config).await.map_err(|error| Failure::database(&config, &error))?
    } else {
        false
    };
    let store = open(&config, Access::Serve).await?;
    let migrated = store.migrate().await;
    store.close().await;
    migrated?;
    output.print(&json!({"migrated": true, "created": created}), || {
        let created = if created { "the database was created; " } else { "" };
        format!("{created}the schema is up to date")
    })?;
    Ok(ExitCode::SUCCESS)
}
