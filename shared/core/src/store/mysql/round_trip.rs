//! Round trips to the server: sends a packet of statements, and returns the result of each.
//!
//! Every connection that this module lends knows whether a transaction may be open on it, so that a caller that fails
//! or is dropped half-way never returns an open transaction to the pool.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Either, Executor, MySql, MySqlConnection, mysql::MySqlRow, pool::PoolConnection};

use super::{
    Clock, StoreError,
    connect::Pool,
    error::failed,
    sql::{Script, Sql},
};
use crate::{
    engine::Timestamp,
    store::{batch::with_retries, decode},
    telemetry,
};

/// How long the server may take to process a packet: longer than its lock waits, shorter than the timeout of a client.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);

/// The result of one statement.
#[derive(Debug, Default)]
pub(super) struct StatementResult {
    pub(super) rows: Vec<MySqlRow>,
    /// Rows inserted, matched by an update, or deleted.
    pub(super) affected: u64,
}

/// A connection that knows whether a transaction may be open on it.
///
/// It returns to the pool only if it was marked as clean. Otherwise it is closed, and the server rolls back what was
/// open.
pub(super) struct TrackedConnection {
    connection: PoolConnection<MySql>,
    clean: bool,
    round_trips: u32,
    timeout: Duration,
}

impl Drop for TrackedConnection {
    fn drop(&mut self) {
        if !self.clean {
            self.connection.close_on_drop();
        }
    }
}

impl TrackedConnection {
    pub(super) async fn open(pool: &Pool) -> Result<Self, StoreError> {
        let connection = pool.acquire().await?;
        Ok(Self { connection, clean: true, round_trips: 0, timeout: RESPONSE_TIMEOUT })
    }

    /// Sends the statements in as few packets as possible, and returns their results in the same order.
    ///
    /// From here on the connection counts as dirty: if this fails or is dropped half-way, the connection is closed.
    pub(super) async fn run(&mut self, script: Script) -> Result<Vec<StatementResult>, StoreError> {
        self.clean = false;
        let mut results = Vec::new();
        for (packet, statements) in script.into_packets() {
            self.round_trips += 1;
            telemetry::count_round_trip();
            let before = results.len();
            let sent = tokio::time::timeout(self.timeout, send(&mut self.connection, packet, &mut results));
            sent.await.map_err(|elapsed| StoreError::Unavailable {
                reason: "it does not answer in time",
                source: elapsed.into(),
            })??;
            if results.len() != before + statements {
                let source = format!("{} results of {statements} statements", results.len() - before);
                return Err(StoreError::Statement { source: source.into() });
            }
        }
        Ok(results)
    }

    /// Declares that no transaction is open, so that the connection may return to the pool.
    pub(super) fn mark_clean(&mut self) {
        self.clean = true;
    }

    /// Changes how long the server may take to process one packet.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn round_trips(&self) -> u32 {
        self.round_trips
    }
}

/// Reads outside of any transaction. Retries a bounded number of times if the connection broke: after the process was
/// frozen, every connection of a pool may be stale without having been idle by its own clock.
pub(super) async fn read(pool: &Pool, script: Script) -> Result<Vec<StatementResult>, StoreError> {
    with_retries(|_| async {
        let mut connection = TrackedConnection::open(pool).await?;
        let results = connection.run(script.clone()).await?;
        connection.mark_clean();
        Ok(results)
    })
    .await
}

/// Runs statements in one transaction, without retries; each result is at the place that its statement had.
pub(super) async fn in_transaction(
    writers: &Pool,
    statements: Script,
) -> Result<Vec<StatementResult>, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let results = connection.run(statements.in_transaction()).await?;
    connection.mark_clean();
    // The first result is that of START TRANSACTION.
    Ok(results.into_iter().skip(1).collect())
}

/// Completes a script that begins with START TRANSACTION, runs it with retries, and returns how many rows the
/// statements at `places` changed. The script must be safe to repeat, because the result of a COMMIT may have been
/// lost.
pub(super) async fn commit_with_retries(
    writers: &Pool,
    mut script: Script,
    places: &[usize],
) -> Result<u64, StoreError> {
    script.add(Sql::new("COMMIT"));
    let results = with_retries(|_| async {
        let mut connection = TrackedConnection::open(writers).await?;
        let results = connection.run(script.clone()).await?;
        connection.mark_clean();
        Ok(results)
    })
    .await?;
    Ok(places.iter().map(|place| affected(&results, *place)).sum())
}

/// How many rows the statement at a place inserted, matched or deleted.
pub(super) fn affected(results: &[StatementResult], place: usize) -> u64 {
    results.get(place).map_or(0, |result| result.affected)
}

/// The rows that the statement at a place returned.
pub(super) fn rows(results: &[StatementResult], place: usize) -> &[MySqlRow] {
    results.get(place).map_or(&[], |result| &result.rows)
}

/// The time that the clock statement at a place returned, or the time of a test's fixed clock.
pub(super) fn clock_of(
    results: &[StatementResult],
    place: usize,
    clock: &Clock,
) -> Result<Timestamp, StoreError> {
    match (clock, rows(results, place).first()) {
        (Clock::Fixed(clock), _) => Ok(clock.now()),
        (Clock::Own, Some(row)) => decode::timestamp(row, 0),
        (Clock::Own, None) => Err(decode::corrupt("the clock statement returned no row".to_owned())),
    }
}

async fn send(
    connection: &mut MySqlConnection,
    packet: String,
    results: &mut Vec<StatementResult>,
) -> Result<(), StoreError> {
    let mut stream = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(packet)));
    let mut current = StatementResult::default();
    while let Some(part) = stream.try_next().await.map_err(failed)? {
        match part {
            Either::Right(row) => current.rows.push(row),
            Either::Left(done) => {
                current.affected = done.rows_affected();
                results.push(std::mem::take(&mut current));
            }
        }
    }
    Ok(())
}
