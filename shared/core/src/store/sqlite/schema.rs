//! Migrates the schema to this version: one process at a time, in one transaction.
//!
//! The transaction takes the write lock before it lists what was applied, so a process that waited for another one
//! finds what that one did. sqlx's own lock does nothing for SQLite.

use std::time::{Duration, Instant};

use sqlx::{
    Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
};

use super::{
    StoreError,
    connect::Pool,
    error::{failed, is_busy},
};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long to wait for the migration of another process.
const LOCK_WAIT: Duration = Duration::from_secs(120);

pub(super) async fn migrate(writer: &Pool) -> Result<(), StoreError> {
    let began = Instant::now();
    let mut connection = writer.acquire().await?;
    loop {
        // SQLite itself waits for the lock for its busy timeout before it says that the file is locked.
        match migrate_under_lock(&mut connection).await {
            Err(MigrateError::Execute(error)) if is_busy(&error) && began.elapsed() < LOCK_WAIT => {}
            Err(source) => {
                // The driver may count a transaction as open that SQLite has rolled back.
                connection.close_on_drop();
                return Err(match source {
                    MigrateError::Execute(failure) => failed(failure),
                    source => StoreError::Migration { source: source.into() },
                });
            }
            Ok(()) => return Ok(()),
        }
    }
}

async fn migrate_under_lock(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATOR.run_direct(None, &mut *transaction, false).await?;
    Ok(transaction.commit().await?)
}
