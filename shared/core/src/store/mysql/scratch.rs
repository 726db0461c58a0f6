//! Databases for the occasion: what the lock lab fills, counts and drops again.
//!
//! Never: a database that it did not make. What it counts it counts in the tables, not by the engine. Next: `cli/src/lab/`.

use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use url::Url;
use uuid::Uuid;

use super::{StoreError, connect, error::failed};

/// A server, by the URL of an account that may create databases.
#[derive(Clone)]
pub struct ScratchServer {
    url: Url,
    connect: MySqlConnectOptions,
}

/// A database that was made for the occasion. It stays until [`Scratch::drop`] is called.
pub struct Scratch {
    server: ScratchServer,
    name: String,
}

/// What the tables say of all resources together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Reservations that are held or committed.
    pub reservations: u64,
    /// Units that were sold twice: what is held and committed is by so much more than `total - available`. Each resource by
    /// itself, so that what is missing in one does not make up for another.
    pub duplicates: u64,
    /// Units that nobody has and nobody can get: less is held and committed than `total - available`.
    pub lost: u64,
}

impl ScratchServer {
    /// Parses a URL such as `mysql://root:secret@127.0.0.1:3306`; a database in it is not used.
    ///
    /// # Errors
    /// The URL is not understood.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let mut url: Url = url.parse().map_err(|error| StoreError::Unavailable {
            reason: "its URL is not understood",
            source: Box::new(error),
        })?;
        url.set_path("");
        Ok(Self { connect: connect::options(url.as_str())?, url })
    }

    /// The host that its URL names.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// The server cannot be reached, or the account may not.
    pub async fn create(&self) -> Result<Scratch, StoreError> {
        let name = format!("bespeak_lab_{}", Uuid::new_v4().simple());
        self.run(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await?;
        Ok(Scratch { server: self.clone(), name })
    }

    /// What it calls itself, such as `10.11.19-MariaDB`.
    pub async fn version(&self) -> Result<String, StoreError> {
        self.text("SELECT VERSION()".to_owned()).await
    }

    /// What decides whether a COMMIT is on disk when it is answered, such as `innodb_flush_log_at_trx_commit=1, sync_binlog=0`.
    pub async fn durability(&self) -> Result<String, StoreError> {
        let settings =
            "SELECT CONCAT('innodb_flush_log_at_trx_commit=', @@innodb_flush_log_at_trx_commit, ', log_bin=',
            @@log_bin, ', sync_binlog=', @@sync_binlog)";
        self.text(settings.to_owned()).await
    }

    /// How often anybody waited for a row lock since the server was started.
    pub async fn row_lock_waits(&self) -> Result<u64, StoreError> {
        let waits = self.text("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'".to_owned()).await?;
        waits.parse().map_err(|source| StoreError::Statement { source: Box::new(source) })
    }

    async fn connected(&self) -> Result<MySqlConnection, StoreError> {
        self.connect.connect().await.map_err(failed)
    }

    async fn run(&self, sql: String) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connected().await?).await.map_err(failed)?;
        Ok(())
    }

    /// The last column of the one row that a statement returns.
    async fn text(&self, sql: String) -> Result<String, StoreError> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_one(&mut self.connected().await?)
            .await
            .map_err(failed)?;
        row.try_get_unchecked(row.len() - 1).map_err(failed)
    }
}

impl Scratch {
    /// Its URL.
    pub fn url(&self) -> String {
        let mut url = self.server.url.clone();
        url.set_path(&self.name);
        url.into()
    }

    /// The server that it is on.
    pub fn server(&self) -> &ScratchServer {
        &self.server
    }

    /// Counts what was sold, and what was sold twice.
    pub async fn count(&self) -> Result<Counted, StoreError> {
        let sql = format!(
            "SELECT CONCAT_WS(',', COALESCE(SUM(reservations), 0), COALESCE(SUM(GREATEST(taken - gone, 0)), 0),
                COALESCE(SUM(GREATEST(gone - taken, 0)), 0))
            FROM (SELECT CAST(r.total AS SIGNED) - CAST(r.available AS SIGNED) AS gone,
                    COALESCE(t.taken, 0) AS taken, COALESCE(t.reservations, 0) AS reservations
                FROM {name}.resources r LEFT JOIN (SELECT resource_id, CAST(SUM(quantity) AS SIGNED) AS taken,
                        COUNT(*) AS reservations FROM {name}.reservations
                    WHERE status IN ('HELD', 'COMMITTED') GROUP BY resource_id) t ON t.resource_id = r.id) s",
            name = self.name
        );
        let text = self.server.text(sql).await?;
        let numbers: Vec<u64> = text.split(',').filter_map(|number| number.parse().ok()).collect();
        let &[reservations, duplicates, lost] = numbers.as_slice() else {
            return Err(StoreError::Statement { source: format!("{text:?} are not three numbers").into() });
        };
        Ok(Counted { reservations, duplicates, lost })
    }

    /// Drops it, with all that is in it.
    pub async fn drop(self) -> Result<(), StoreError> {
        self.server.run(format!("DROP DATABASE IF EXISTS {}", self.name)).await
    }
}
