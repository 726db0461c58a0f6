//! What MySQL's error numbers mean to an operator
//! (<https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
//! <https://mariadb.com/docs/server/reference/error-codes>).

use sqlx::mysql::MySqlDatabaseError;

use super::{Contention, StoreError};

/// Translates an error of the driver.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let unavailable = |reason, error: sqlx::Error| StoreError::Unavailable { reason, source: error.into() };
    match &error {
        sqlx::Error::PoolTimedOut => unavailable(
            "no connection became available in time: the server is down or unreachable, or all connections are in use",
            error,
        ),
        sqlx::Error::PoolClosed => unavailable("the store is closed", error),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            StoreError::Lost { attempts: 1, source: error.into() }
        }
        sqlx::Error::Tls(_) => unavailable("TLS with it failed", error),
        sqlx::Error::Configuration(_) => unavailable(
            "its URL or its account's authentication method is not supported: caching_sha2_password needs TLS",
            error,
        ),
        sqlx::Error::Database(database) => match database.try_downcast_ref::<MySqlDatabaseError>() {
            Some(said) => by_number(said.number(), error),
            None => StoreError::Statement { source: error.into() },
        },
        _ => StoreError::Statement { source: error.into() },
    }
}

fn by_number(number: u16, error: sqlx::Error) -> StoreError {
    let unavailable = |reason, error: sqlx::Error| StoreError::Unavailable { reason, source: error.into() };
    match number {
        1213 | 1614 | 3101 => StoreError::contended(Contention::Deadlock, error),
        1205 | 3572 => StoreError::contended(Contention::LockTimeout, error),
        1020 | 1412 => StoreError::contended(Contention::Snapshot, error),
        // Another writer inserted the same key between this batch's lookup and its insert.
        1062 | 1586 => StoreError::contended(Contention::DuplicateKey, error),
        // The connection was closed: by a shutdown, a KILL, an idle timeout, or a broken packet.
        1053 | 1077 | 1079 | 1080 | 1152 | 1154..=1161 | 1184 | 1317 | 1927 | 4031 => {
            StoreError::Lost { attempts: 1, source: error.into() }
        }
        1048 | 1264 | 1292 | 1366 | 1406 | 3819 | 4025 => StoreError::Value { source: error.into() },
        1040 | 1203 | 1226 | 1637 => unavailable("it accepts no more connections", error),
        1290 | 1792 | 1836 | 3100 => unavailable("it is read-only", error),
        1021 | 1114 | 3 | 28 => unavailable("its disk is full", error),
        1026 | 1030 | 1041 | 1180 | 1206 => unavailable("it lacks resources", error),
        1047 | 1969 | 3024 => unavailable("it does not serve statements now", error),
        1044 | 1045 | 1142 | 1143 | 1227 => unavailable("it denies access", error),
        1049 => unavailable("the database that the URL names does not exist", error),
        1146 => unavailable("its tables do not exist: run bespeak migrate", error),
        _ => StoreError::Statement { source: error.into() },
    }
}
