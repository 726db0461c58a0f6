//! Databases with Bespeak's tables, for cases that use the store without a server.

use std::sync::Arc;

use bespeak::store::{
    Store,
    mysql::{MysqlOptions, MysqlStore},
};

use crate::{Error, mysql::Database};

/// Creates a database with empty tables, and returns its name and a store on it.
pub(crate) async fn migrated(database: &Database) -> Result<(String, Arc<MysqlStore>), Error> {
    let name = database.fresh().await?;
    let store = Arc::new(MysqlStore::new(&database.url(&name, None)?, MysqlOptions::default())?);
    store.migrate().await?;
    Ok((name, store))
}

/// Counts rows. `rows` is a table, optionally followed by a WHERE clause.
pub(super) async fn count(database: &Database, rows: &str) -> Result<u64, Error> {
    Ok(database.status(&format!("SELECT CAST(COUNT(*) AS CHAR) FROM {rows}")).await?.parse()?)
}
