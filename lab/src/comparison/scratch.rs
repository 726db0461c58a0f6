//! The lab's databases: the lab creates one for each run, counts what was sold in it, and drops it.
//!
//! Never: a database that the lab did not create. Units sold twice are counted in the tables; the engine's own
//! answers do not count. All SQL of the lab is in this file.

use std::{error::Error, str::FromStr};

use bespeak_cli::Failure;
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use url::Url;
use uuid::Uuid;

/// A MySQL or MariaDB server, by the URL of an account that may create databases.
#[derive(Clone)]
pub(super) struct ScratchServer {
    url: Url,
    connect: MySqlConnectOptions,
}

/// A database that the lab created. It stays until [`ScratchDatabase::drop`] is called.
pub(super) struct ScratchDatabase {
    server: ScratchServer,
    name: String,
}

impl ScratchServer {
    /// Parses a URL such as `mysql://root:secret@127.0.0.1:3306`. The name of a database in the URL is not used.
    ///
    /// # Errors
    /// The URL is not a MySQL URL. The message does not contain the URL, because it may contain a password.
    pub(super) fn new(url: &str) -> Result<Self, Failure> {
        let failed = |error: &dyn Error| {
            Failure::caused("the lab's database URL is not like mysql://USER:PASSWORD@HOST:PORT", error)
        };
        let mut url = Url::parse(url).map_err(|error| failed(&error))?;
        url.set_path("");
        // The statements of an audit are long, and each run has thousands: nothing that a log should have.
        let connect = MySqlConnectOptions::from_str(url.as_str())
            .map(ConnectOptions::disable_statement_logging)
            .map_err(|error| failed(&error))?;
        Ok(Self { url, connect })
    }

    /// The host in the URL.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Creates an empty database with a random name.
    ///
    /// # Errors
    /// The server cannot be reached, or the account may not create databases.
    pub(super) async fn create(&self) -> Result<ScratchDatabase, Failure> {
        let name = format!("bespeak_lab_{}", Uuid::new_v4().simple());
        self.run(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await?;
        Ok(ScratchDatabase { server: self.clone(), name })
    }

    /// The server's version, such as `10.11.19-MariaDB`.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        self.text("SELECT VERSION()".to_owned()).await
    }

    /// The settings that decide whether a COMMIT is on disk when the server acknowledges it, such as
    /// `innodb_flush_log_at_trx_commit=1, log_bin=0, sync_binlog=0`.
    pub(super) async fn durability(&self) -> Result<String, Failure> {
        let settings =
            "SELECT CONCAT('innodb_flush_log_at_trx_commit=', @@innodb_flush_log_at_trx_commit, ', log_bin=',
            @@log_bin, ', sync_binlog=', @@sync_binlog)";
        self.text(settings.to_owned()).await
    }

    /// The number of waits for a row lock since the server started.
    pub(super) async fn row_lock_waits(&self) -> Result<u64, Failure> {
        self.number("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'".to_owned()).await
    }

    async fn connected(&self) -> Result<MySqlConnection, Failure> {
        self.connect.connect().await.map_err(failed)
    }

    async fn run(&self, sql: String) -> Result<(), Failure> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connected().await?).await.map_err(failed)?;
        Ok(())
    }

    /// The last column of the only row that a statement returns.
    async fn text(&self, sql: String) -> Result<String, Failure> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_one(&mut self.connected().await?)
            .await
            .map_err(failed)?;
        row.try_get_unchecked(row.len() - 1).map_err(failed)
    }

    async fn number(&self, sql: String) -> Result<u64, Failure> {
        let text = self.text(sql).await?;
        text.parse().map_err(|error| {
            Failure::caused(format!("the lab's MySQL server returned {text:?} instead of a number"), &error)
        })
    }
}

impl ScratchDatabase {
    /// The URL of the database, which contains the account's password.
    pub(super) fn url(&self) -> String {
        let mut url = self.server.url.clone();
        url.set_path(&self.name);
        url.into()
    }

    /// The server that has the database.
    pub(super) fn server(&self) -> &ScratchServer {
        &self.server
    }

    /// The number of units that were sold twice: by so much more is held and committed than `total - available`. Each
    /// resource counts by itself, so that units missing in one do not hide units sold twice in another.
    pub(super) async fn duplicates(&self) -> Result<u64, Failure> {
        let sql = format!(
            "SELECT COALESCE(SUM(GREATEST(taken - gone, 0)), 0)
            FROM (SELECT CAST(r.total AS SIGNED) - CAST(r.available AS SIGNED) AS gone, COALESCE(t.taken, 0) AS taken
                FROM {name}.resources r LEFT JOIN (SELECT resource_id, CAST(SUM(quantity) AS SIGNED) AS taken
                    FROM {name}.reservations
                    WHERE status IN ('HELD', 'COMMITTED') GROUP BY resource_id) t ON t.resource_id = r.id) s",
            name = self.name
        );
        self.server.number(sql).await
    }

    /// Drops the database with everything in it.
    pub(super) async fn drop(self) -> Result<(), Failure> {
        self.server.run(format!("DROP DATABASE IF EXISTS {}", self.name)).await
    }
}

fn failed(error: sqlx::Error) -> Failure {
    Failure::caused("the lab's MySQL server cannot be used", &error)
}
