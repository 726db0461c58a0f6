//! What is measured on a MySQL server: started for the occasion, with full durability.

mod cases;
pub(crate) mod handwritten;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bespeak_lab::load::Summary;
use bespeak_services::{Mysql, Proxy};
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use tempfile::TempDir;

use crate::{
    Error,
    cases::Bench,
    client::{hold_request, load},
    server::Server,
};

pub(crate) use cases::*;

/// A server with enough memory for ten million reservations.
const OPTIONS: [&str; 3] =
    ["--innodb-buffer-pool-size=5G", "--innodb-log-file-size=2G", "--innodb-flush-log-at-trx-commit=1"];

/// The database server of a benchmark.
pub(crate) struct Database {
    server: Mysql,
}

impl Database {
    pub(crate) async fn start() -> Result<Self, Error> {
        Ok(Self { server: Mysql::start_own(&OPTIONS).await? })
    }

    /// What it is, for the report.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        let flush = self.status("SELECT CAST(@@innodb_flush_log_at_trx_commit AS CHAR)").await?;
        Ok(format!("{}, innodb_flush_log_at_trx_commit={flush}, on loopback", self.server.describe()))
    }

    async fn root(&self) -> Result<MySqlConnection, Error> {
        Ok(self.server.url().parse::<MySqlConnectOptions>()?.connect().await?)
    }

    pub(crate) async fn run(&self, sql: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.root().await?).await?;
        Ok(())
    }

    /// The last column of the one row that a statement returns.
    pub(crate) async fn status(&self, sql: &str) -> Result<String, Error> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.root().await?).await?;
        Ok(row.try_get_unchecked(row.len() - 1)?)
    }

    /// The one column, of whole numbers, of the rows that a statement returns.
    pub(crate) async fn numbers(&self, sql: &str) -> Result<Vec<i64>, Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.root().await?).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Statements that clients sent so far.
    async fn questions(&self) -> Result<u64, Error> {
        Ok(self.status("SHOW GLOBAL STATUS LIKE 'Questions'").await?.parse()?)
    }

    /// Waits until what was changed in memory is on disk, so that its writing is not measured with what comes next.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let limit = self.status("SELECT CAST(@@innodb_max_dirty_pages_pct AS CHAR)").await?;
        let hurry = "SET GLOBAL innodb_io_capacity_max = 40000; SET GLOBAL innodb_io_capacity = 20000;
            SET GLOBAL innodb_max_dirty_pages_pct = 0";
        self.run(hurry.to_owned()).await?;
        let dirty = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
        while self.status(dirty).await?.parse::<u64>()? > 1_000 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // As the server starts by itself.
        let back = format!(
            "SET GLOBAL innodb_io_capacity = 200; SET GLOBAL innodb_io_capacity_max = 2000;
            SET GLOBAL innodb_max_dirty_pages_pct = {limit}"
        );
        self.run(back).await
    }

    /// An empty database, and its name.
    pub(crate) async fn fresh(&self) -> Result<String, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.run(format!("CREATE DATABASE {name}")).await?;
        Ok(name)
    }

    pub(crate) async fn drop(&self, name: &str) -> Result<(), Error> {
        self.run(format!("DROP DATABASE {name}")).await
    }

    /// A proxy in front of it.
    pub(crate) fn proxy(&self) -> Result<Proxy, Error> {
        Ok(Proxy::start(self.server.address())?)
    }

    /// Its URL, at the server's own address or at that of a proxy.
    pub(crate) fn url(&self, name: &str, at: Option<SocketAddr>) -> Result<String, Error> {
        let mut url: url::Url = self.server.url().parse()?;
        if let Some(at) = at {
            url.set_ip_host(at.ip()).map_err(|()| "no address")?;
            url.set_port(Some(at.port())).map_err(|()| "no port")?;
        }
        url.set_path(name);
        Ok(url.to_string())
    }
}

/// Who serves holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Strategy(&'static str),
    Handwritten,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Strategy(name) => name,
            Self::Handwritten => "hand-written conditional transaction",
        }
    }

    async fn start(self, bench: &Bench, url: &str) -> Result<Server, Error> {
        match self {
            Self::Strategy(strategy) => {
                let settings = [("BESPEAK_STRATEGY", strategy), ("BESPEAK_DATABASE_URL", url)];
                Server::bespeak(&bench.binary, TempDir::new()?, &settings).await
            }
            Self::Handwritten => Server::handwritten(url).await,
        }
    }
}

/// Holds on one hot resource in a database that is empty, `latency` away; only answers of 200 may come.
async fn hot(
    bench: &Bench,
    database: &Database,
    contender: Contender,
    connections: usize,
    latency: Duration,
) -> Result<Summary, Error> {
    let name = database.fresh().await?;
    let proxy = if latency.is_zero() { None } else { Some(Proxy::start(database.server.address())?) };
    if let Some(proxy) = &proxy {
        proxy.set_latency(latency);
    }
    let url = database.url(&name, proxy.as_ref().map(Proxy::address))?;
    let server = contender.start(bench, &url).await?;
    let target = server.target()?;
    if contender != Contender::Handwritten {
        crate::client::define(&target, "hot", 9_000_000_000).await?;
    }
    let summary = load(bench, &target, connections, hold_request("hot".into())).await?;
    crate::client::only(&summary, "200")?;
    drop(server);
    database.drop(&name).await?;
    Ok(summary)
}
