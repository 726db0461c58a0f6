//! Moves the WAL into the database file in the background, so that few commits have to wait for it.
//!
//! A PASSIVE checkpoint (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>) blocks no other connection: it
//! copies what was committed when it began. With checkpoints by commits alone, a large one made every hundredth batch
//! wait for tens of milliseconds.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use super::{StoreError, connect::pool_options, error::failed};

/// How often the size of the WAL is checked.
const EVERY: Duration = Duration::from_millis(200);
/// Below this many bytes the WAL is left alone: moving little costs as many disk syncs as moving much.
const BYTES_MIN: u64 = 8 * 1024 * 1024;

/// The task, and the connection that it uses.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pool: SqlitePool,
    task: JoinHandle<()>,
}

impl Checkpoints {
    pub(super) async fn start(file: &Path, connect: SqliteConnectOptions) -> Result<Self, StoreError> {
        let mut wal = file.as_os_str().to_owned();
        wal.push("-wal");
        let pool = pool_options(1).connect_with(connect).await.map_err(failed)?;
        let task = tokio::spawn(run(pool.clone(), wal.into()));
        Ok(Self { pool, task })
    }

    /// Stops the task; a checkpoint that is running is finished.
    pub(super) async fn stop(&self) {
        self.task.abort();
        self.pool.close().await;
    }
}

async fn run(pool: SqlitePool, wal: PathBuf) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() >= BYTES_MIN)
            && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&pool).await
        {
            // The writer's own checkpoints continue, and its commits report what is wrong with the disk.
            tracing::debug!(%error, "a checkpoint failed");
        }
    }
}
