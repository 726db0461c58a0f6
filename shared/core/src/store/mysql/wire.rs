//! Round trips: a packet of statements goes out, and what each of them answered comes back.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Either, Executor, MySql, MySqlConnection, mysql::MySqlRow, pool::PoolConnection};

use super::{StoreError, connect::Pool, error::failed, sql::Script};
use crate::{store::batch::with_retries, telemetry};

/// How long the database may take to answer a packet: longer than its lock waits, shorter than a client's patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// What a statement answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<MySqlRow>,
    /// Rows inserted, matched by an update, or deleted.
    pub(super) affected: u64,
}

/// A connection on which it is known whether a transaction is open.
///
/// It goes back to the pool only when it was said to be clean; else it is closed, which undoes what it had begun.
pub(super) struct Wire {
    connection: PoolConnection<MySql>,
    clean: bool,
    round_trips: u32,
    patience: Duration,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !self.clean {
            self.connection.close_on_drop();
        }
    }
}

impl Wire {
    pub(super) async fn open(pool: &Pool) -> Result<Self, StoreError> {
        let connection = pool.acquire().await?;
        Ok(Self { connection, clean: true, round_trips: 0, patience: ANSWER_TIMEOUT })
    }

    /// Sends statements, in as few packets as they fit in, and returns their answers in their order.
    ///
    /// From here on the connection counts as dirty. Where it fails, or is dropped half-way, it is closed.
    pub(super) async fn ask(&mut self, script: Script) -> Result<Vec<Answer>, StoreError> {
        self.clean = false;
        let mut answers = Vec::new();
        for (packet, statements) in script.into_packets() {
            self.round_trips += 1;
            telemetry::count_round_trip();
            let before = answers.len();
            let asked = tokio::time::timeout(self.patience, send(&mut self.connection, packet, &mut answers));
            asked.await.map_err(|elapsed| StoreError::Unavailable {
                reason: "it does not answer in time",
                source: elapsed.into(),
            })??;
            if answers.len() != before + statements {
                let source = format!("{} answers to {statements} statements", answers.len() - before);
                return Err(StoreError::Statement { source: source.into() });
            }
        }
        Ok(answers)
    }

    /// Says that no transaction is open.
    pub(super) fn mark_clean(&mut self) {
        self.clean = true;
    }

    /// Changes how long each answer may take.
    pub(super) fn wait_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(super) fn round_trips(&self) -> u32 {
        self.round_trips
    }
}

/// Reads, outside of any transaction; again, a bounded number of times, where the connection broke: after a freeze in which no
/// clock went on, all connections of a pool may be stale without having been idle.
pub(super) async fn read(pool: &Pool, script: Script) -> Result<Vec<Answer>, StoreError> {
    with_retries(|_| async {
        let mut wire = Wire::open(pool).await?;
        let answers = wire.ask(script.clone()).await?;
        wire.mark_clean();
        Ok(answers)
    })
    .await
}

async fn send(
    connection: &mut MySqlConnection,
    packet: String,
    answers: &mut Vec<Answer>,
) -> Result<(), StoreError> {
    let mut results = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(packet)));
    let mut answer = Answer::default();
    while let Some(result) = results.try_next().await.map_err(failed)? {
        match result {
            Either::Right(row) => answer.rows.push(row),
            Either::Left(done) => {
                answer.affected = done.rows_affected();
                answers.push(std::mem::take(&mut answer));
            }
        }
    }
    Ok(())
}
