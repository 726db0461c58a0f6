//! What the result codes of SQLite mean to an operator (<https://www.sqlite.org/rescode.html>).

use super::{Contention, StoreError};

/// Whether another connection has the lock that a statement needs.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if matches!(primary_code(database.as_ref()), 5 | 6))
}

/// The primary result code: the low byte of an extended one.
fn primary_code(error: &dyn sqlx::error::DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff
}

/// Translates an error of the driver.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let unavailable = |reason, error: sqlx::Error| StoreError::Unavailable { reason, source: error.into() };
    match &error {
        sqlx::Error::PoolTimedOut => unavailable("no connection became free in time", error),
        sqlx::Error::PoolClosed => unavailable("the store is closed", error),
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => unavailable("the connection broke", error),
        sqlx::Error::Database(database) => {
            match primary_code(database.as_ref()) {
                5 | 6 => unavailable("locked by another process", error),
                8 => unavailable("the database is read-only", error),
                10 => unavailable("disk input or output failed", error),
                13 => unavailable("the disk is full", error),
                14 => unavailable("the file cannot be opened", error),
                11 | 26 => unavailable("the file is damaged or is not a database", error),
                // Another process inserted the same key between this batch's lookup and its insert.
                19 if database.is_unique_violation() => {
                    StoreError::contended(Contention::DuplicateKey, error)
                }
                // The value is too large, or violates a CHECK or NOT NULL.
                18 | 19 => StoreError::Value { source: error.into() },
                _ => StoreError::Statement { source: error.into() },
            }
        }
        _ => StoreError::Statement { source: error.into() },
    }
}
