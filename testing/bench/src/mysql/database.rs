//! The MySQL server of the benchmarks: started by the first case that needs it, with full durability.
//!
//! Never: a table, except those that a case's own SQL creates.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bespeak_services::{Mysql, Proxy};
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};

use crate::Error;

/// The options of a server with enough memory for ten million reservations.
const OPTIONS: [&str; 3] =
    ["--innodb-buffer-pool-size=5G", "--innodb-log-file-size=2G", "--innodb-flush-log-at-trx-commit=1"];

/// The database server of a benchmark.
pub(crate) struct Database {
    server: Mysql,
}

impl Database {
    /// Starts the server.
    pub(crate) async fn start() -> Result<Self, Error> {
        Ok(Self { server: Mysql::start_own(&OPTIONS).await? })
    }

    /// Product, version and durability, for the report.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        let flush = self.status("SELECT CAST(@@innodb_flush_log_at_trx_commit AS CHAR)").await?;
        Ok(format!("{}, innodb_flush_log_at_trx_commit={flush}, on loopback", self.server.describe()))
    }

    /// Connects as root.
    async fn root(&self) -> Result<MySqlConnection, Error> {
        Ok(self.server.url().parse::<MySqlConnectOptions>()?.connect().await?)
    }

    /// Executes statements.
    pub(crate) async fn run(&self, sql: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.root().await?).await?;
        Ok(())
    }

    /// The last column of the one row that a statement returns.
    pub(crate) async fn status(&self, sql: &str) -> Result<String, Error> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.root().await?).await?;
        Ok(row.try_get_unchecked(row.len() - 1)?)
    }

    /// The only column of the rows that a statement returns, as integers.
    pub(crate) async fn numbers(&self, sql: &str) -> Result<Vec<i64>, Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.root().await?).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// The number of statements that clients have sent so far.
    pub(super) async fn questions(&self) -> Result<u64, Error> {
        Ok(self.status("SHOW GLOBAL STATUS LIKE 'Questions'").await?.parse()?)
    }

    /// Waits until the server has written its dirty pages to disk, so that the writing does not slow down the
    /// next measurement.
    pub(crate) async fn wait_for_flush(&self) -> Result<(), Error> {
        let limit = self.status("SELECT CAST(@@innodb_max_dirty_pages_pct AS CHAR)").await?;
        let faster = "SET GLOBAL innodb_io_capacity_max = 40000; SET GLOBAL innodb_io_capacity = 20000;
            SET GLOBAL innodb_max_dirty_pages_pct = 0";
        self.run(faster.to_owned()).await?;
        let dirty = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
        while self.status(dirty).await?.parse::<u64>()? > 1_000 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // The defaults of the server.
        let defaults = format!(
            "SET GLOBAL innodb_io_capacity = 200; SET GLOBAL innodb_io_capacity_max = 2000;
            SET GLOBAL innodb_max_dirty_pages_pct = {limit}"
        );
        self.run(defaults).await
    }

    /// Creates an empty database and returns its name.
    pub(crate) async fn fresh(&self) -> Result<String, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.run(format!("CREATE DATABASE {name}")).await?;
        Ok(name)
    }

    /// Drops a database.
    pub(crate) async fn drop(&self, name: &str) -> Result<(), Error> {
        self.run(format!("DROP DATABASE {name}")).await
    }

    /// Starts a proxy in front of the server.
    pub(crate) fn proxy(&self) -> Result<Proxy, Error> {
        Ok(Proxy::start(self.server.address())?)
    }

    /// The URL of a database, at the server's own address or a proxy's.
    pub(crate) fn url(&self, name: &str, proxy: Option<SocketAddr>) -> Result<String, Error> {
        let mut url: url::Url = self.server.url().parse()?;
        if let Some(address) = proxy {
            url.set_ip_host(address.ip()).map_err(|()| "the URL cannot have a host")?;
            url.set_port(Some(address.port())).map_err(|()| "the URL cannot have a port")?;
        }
        url.set_path(name);
        Ok(url.to_string())
    }
}
