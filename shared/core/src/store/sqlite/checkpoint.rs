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
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connect::pool_options;

/// How often the size of the WAL is checked.
const EVERY: Duration = Duration::from_millis(200);
/// Below this many bytes the WAL is left alone: moving little costs as many disk syncs as moving much.
const BYTES_MIN: u64 = 8 * 1024 * 1024;

/// The connection that checkpoints use, and the file that they keep small.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pool: SqlitePool,
    wal: PathBuf,
}

impl Checkpoints {
    /// The connection is opened when it is first needed.
    pub(super) fn new(file: &Path, connect: SqliteConnectOptions) -> Self {
        let mut wal = file.as_os_str().to_owned();
        wal.push("-wal");
        Self { pool: pool_options(1).connect_lazy_with(connect), wal: wal.into() }
    }

    /// Moves the WAL whenever it is large, until `stop` is cancelled; a checkpoint that is running is finished.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if std::fs::metadata(&self.wal).is_ok_and(|wal| wal.len() >= BYTES_MIN)
                && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.pool).await
            {
                // The writer's own checkpoints continue, and its commits report what is wrong with the disk.
                tracing::debug!(%error, "a checkpoint failed");
            }
        }
    }

    /// Closes the connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
