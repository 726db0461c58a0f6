//! Which migrations this version has, and whether a file has all of them.

use std::sync::LazyLock;

use sqlx::{SqliteConnection, migrate::Migrator};

use super::{StoreError, error::failed};
use crate::store::migrations;

/// The migrations of this version.
pub(super) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = migrations::migrator(migrations::SQLITE);
    // Migrations of newer versions are additive, unless the schema floor says otherwise.
    migrator.set_ignore_missing(true);
    migrator
});

/// Whether the file has books, and a migration of this version is missing in them.
pub(super) async fn is_older(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    const MIGRATED: &str = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let migrated: i64 = sqlx::query_scalar(MIGRATED).fetch_one(&mut *connection).await.map_err(failed)?;
    if migrated == 0 {
        return Ok(false);
    }
    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations")
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    Ok(!applied.is_empty() && MIGRATOR.iter().any(|migration| !applied.contains(&migration.version)))
}
