//! Migrates the schema to this version: one process at a time, and again if an earlier migration was interrupted. A
//! schema of a newer version is left as it is.
//!
//! MySQL commits each CREATE TABLE by itself, so the migrations are safe to repeat (IF NOT EXISTS). sqlx's own lock
//! is not used: it waits without a timeout, which MariaDB does not support.

use std::time::Duration;

use super::operations::{FLOOR, HAS_FLOOR};
use super::{
    StoreError,
    connect::Pool,
    error,
    round_trip::{TrackedConnection, rows},
    sql::{Script, Sql},
};
use crate::store::{Version, decode::Columns, migrations, operations::check_floor};

/// How long to wait for the migration of another process.
const LOCK_WAIT: Duration = Duration::from_secs(120);

/// Creates the database of a URL if it does not exist, and returns whether it was created. The account needs the
/// privilege to do so.
///
/// # Errors
/// The server is unavailable, or denies access.
pub async fn create_database(url: &str) -> Result<bool, StoreError> {
    use sqlx::{MySql, migrate::MigrateDatabase};

    if MySql::database_exists(url).await.map_err(error::failed)? {
        return Ok(false);
    }
    MySql::create_database(url).await.map_err(error::failed)?;
    Ok(true)
}

pub(super) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    let mut lock = TrackedConnection::open(pool).await?;
    lock.set_timeout(LOCK_WAIT + Duration::from_secs(10));
    let mut script = Script::default();
    let name = "CONCAT('bespeak.', MD5(DATABASE()))";
    let wait = i64::try_from(LOCK_WAIT.as_secs()).unwrap_or(i64::MAX);
    let locked = script.add(Sql::new("SELECT GET_LOCK(").push(name).push(", ").integer(wait).push(")"));
    let cut_off = script.add(Sql::new(
        "SELECT COUNT(*) FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'",
    ));
    let has_floor = script.add(Sql::new(HAS_FLOOR));
    let results = lock.run(script).await?;
    let number = |place| rows(&results, place).first().map_or(Ok(None), |row| row.optional_integer(0));
    if number(locked)? != Some(1) {
        let source = "another process has been migrating this database for two minutes";
        return Err(StoreError::Migration { source: source.into() });
    }
    let has_floor = number(has_floor)? == Some(1);
    // Under the lock: another process may have raised the floor meanwhile.
    if has_floor {
        let mut script = Script::default();
        let floor = script.add(Sql::new(FLOOR));
        let results = lock.run(script).await?;
        let floor = rows(&results, floor).first().map(|row| row.text(0)).transpose()?;
        check_floor(floor, Version::current())?;
    }
    if number(cut_off)? == Some(1) {
        let mut script = Script::default();
        script.add(Sql::new("DELETE FROM _sqlx_migrations WHERE success = FALSE"));
        lock.run(script).await?;
    }
    let mut migrator = migrations::migrator(migrations::MYSQL);
    migrator.set_locking(false);
    // Migrations of newer versions are additive, unless the schema floor says otherwise.
    migrator.set_ignore_missing(true);
    let migrated = migrator.run(pool.connections()).await;
    let mut script = Script::default();
    script.add(Sql::new("SELECT RELEASE_LOCK(").push(name).push(")"));
    // If releasing fails, the lock is released with the connection, which is then closed.
    if lock.run(script).await.is_ok() {
        lock.mark_clean();
    }
    migrated.map_err(|source| match source {
        sqlx::migrate::MigrateError::Execute(failure) => error::failed(failure),
        source => StoreError::Migration { source: source.into() },
    })
}
