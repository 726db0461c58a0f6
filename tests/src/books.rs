//! A database in a folder of its own, and a look at it from outside.

use bespeak::store::{
    Audit, Clock, Store,
    sqlite::{SqliteOptions, SqliteStore},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// A database file.
pub struct Books {
    folder: TempDir,
}

impl Default for Books {
    fn default() -> Self {
        Self::new()
    }
}

impl Books {
    /// A file that is not there yet.
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder for the database") }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Its path.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("books.db")
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.expect("connected")
    }

    /// Runs SQL, as nobody should.
    pub async fn tamper(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.connection().await).await.expect("tampered");
    }

    /// The audit's findings.
    pub async fn audit(&self) -> Audit {
        let options = SqliteOptions { create: false, read_only: true, readers: 1, clock: Clock::Own };
        let store = SqliteStore::open(&self.url(), options).await.expect("opened");
        let audit = store.audit().await.expect("audited");
        store.close().await;
        audit
    }

    /// Asserts that every invariant that can be read from the books holds.
    pub async fn in_order(&self) {
        let audit = self.audit().await;
        assert!(audit.is_clean(), "{audit:#?}");
    }

    /// The outbox in order: key, version, type, payload.
    pub async fn events(&self) -> Vec<Value> {
        let rows = sqlx::query("SELECT event_key, key_version, type, payload FROM outbox ORDER BY id")
            .fetch_all(&mut self.connection().await)
            .await
            .expect("read");
        rows.iter()
            .map(|row| {
                let payload: &str = row.get(3);
                json!({
                    "key": row.get::<&str, _>(0),
                    "version": row.get::<i64, _>(1),
                    "type": row.get::<&str, _>(2),
                    "payload": serde_json::from_str::<Value>(payload).expect("JSON"),
                })
            })
            .collect()
    }
}
