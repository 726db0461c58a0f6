//! A database that belongs to one test, and access to it from outside the product.
//!
//! When a test ends well, [`Books`] audits its database before it removes it, so that no story has to remember to. A
//! story that damages the books says so with [`Books::expect_damage`].

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bespeak::{
    engine::ReportedStock,
    store::{
        Audit, Clock, Database as Kept, FixedClock, Guard,
        mysql::{MysqlOptions, MysqlStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
};
use bespeak_services::Mysql;
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions, Connection, Decode, MySqlConnection, Row, SqliteConnection,
    Type, mysql::MySqlConnectOptions, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use url::Url;

/// A database of one test: a file, or a database on a server. It is audited and removed when dropped.
pub struct Books {
    place: Place,
    damage_expected: AtomicBool,
    reported_stock: OnceLock<ReportedStock>,
}

enum Place {
    File(TempDir),
    Server { root: Url, name: String },
}

/// A transaction that blocks all writers until it is released or dropped.
pub struct WriterLock {
    connection: Connected,
}

enum Connected {
    Sqlite(SqliteConnection),
    Mysql(MySqlConnection),
}

/// The server that all tests of this process share.
///
/// # Panics
/// No server is given and none can be started; the message says what to install.
pub async fn mysql_server() -> &'static Mysql {
    static SERVER: OnceCell<Mysql> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async { Mysql::provide().await.unwrap_or_else(|missing| panic!("{missing}")) })
        .await
}

/// The account of servers under test: it owns its databases and is not an administrator.
const USER: &str = "bespeak";
const PASSWORD: &str = "be'speak";

impl Books {
    fn at(place: Place) -> Self {
        Self { place, damage_expected: AtomicBool::new(false), reported_stock: OnceLock::new() }
    }

    /// Declares that this story damages the books, so that they are not audited when they are dropped.
    pub fn expect_damage(&self) {
        self.damage_expected.store(true, Ordering::Relaxed);
    }

    /// Declares that each give-back is a stock event in this story, as in the mode of OpenReserve.
    pub fn expect_every_give_back(&self) {
        let _ = self.reported_stock.set(ReportedStock::EveryGiveBack);
    }

    fn of_file(&self, clock: Clock) -> SqliteOptions {
        let reported_stock = self.reported_stock.get().copied().unwrap_or_default();
        SqliteOptions { clock, reported_stock, ..SqliteOptions::default() }
    }

    /// A SQLite database whose file does not exist yet.
    pub fn sqlite() -> Self {
        Self::at(Place::File(TempDir::new().expect("a folder for the database")))
    }

    /// An empty database on the shared server.
    pub async fn mysql() -> Self {
        Self::on(mysql_server().await).await
    }

    /// An empty database on a server.
    pub async fn on(server: &Mysql) -> Self {
        let name = format!("bespeak_test_{}", crate::unique());
        let root: Url = server.url().parse().expect("a URL");
        let script = format!(
            "CREATE DATABASE {name};
            CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY 'be''speak';
            CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY 'be''speak';
            GRANT ALL ON {name}.* TO '{USER}'@'%';
            GRANT ALL ON {name}.* TO '{USER}'@'localhost'"
        );
        let books = Self::at(Place::Server { root, name });
        let mut root = books.root().await;
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut root).await.expect("an empty database");
        books
    }

    /// Another empty database of the same kind.
    pub async fn another(&self) -> Self {
        if self.is_file() { Self::sqlite() } else { Self::mysql().await }
    }

    /// Whether the database is a file.
    pub fn is_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// The URL for `BESPEAK_DATABASE_URL`.
    pub fn url(&self) -> String {
        match &self.place {
            Place::File(_) => format!("sqlite://{}", self.path().display()),
            Place::Server { root, .. } => {
                self.url_at(root.host_str().expect("a host"), root.port_or_known_default().unwrap_or(3306))
            }
        }
    }

    /// The URL of the database at another address, such as that of a proxy.
    pub fn url_at(&self, host: &str, port: u16) -> String {
        let Place::Server { root, name } = &self.place else { panic!("a file has no address") };
        let mut url = root.clone();
        url.set_username(USER).expect("a username");
        url.set_password(Some(PASSWORD)).expect("a password");
        url.set_host(Some(host)).expect("a host");
        url.set_port(Some(port)).expect("a port");
        url.set_path(name);
        url.to_string()
    }

    /// The path of the file.
    pub fn path(&self) -> std::path::PathBuf {
        let Place::File(folder) = &self.place else { panic!("a database on a server has no path") };
        folder.path().join("books.db")
    }

    /// Opens a store as a process does, without migrating.
    pub async fn open(&self, clock: Option<&FixedClock>, guard: Guard) -> Arc<dyn Kept> {
        let clock = clock.cloned().map_or(Clock::Own, Clock::Fixed);
        if self.is_file() {
            let options = self.of_file(clock);
            return Arc::new(SqliteStore::open(&self.url(), options).await.expect("opened"));
        }
        let reported_stock = self.reported_stock.get().copied().unwrap_or_default();
        let options = MysqlOptions { clock, guard, reported_stock, ..MysqlOptions::default() };
        Arc::new(MysqlStore::new(&self.url(), options).expect("a valid URL"))
    }

    /// The name of the database on the server.
    pub fn name(&self) -> &str {
        let Place::Server { name, .. } = &self.place else { panic!("a file has no name on a server") };
        name
    }

    /// The address of the server.
    pub fn address(&self) -> std::net::SocketAddr {
        let Place::Server { root, .. } = &self.place else { panic!("a file has no address") };
        let host = root.host_str().expect("a host");
        let mut addresses =
            std::net::ToSocketAddrs::to_socket_addrs(&(host, root.port_or_known_default().unwrap_or(3306)))
                .expect("an address");
        addresses.next().expect("an address")
    }

    /// A connection of the account of servers under test.
    ///
    /// # Errors
    /// The server refuses the connection.
    pub async fn customer(&self) -> Result<MySqlConnection, sqlx::Error> {
        MySqlConnectOptions::from_url(&self.url().parse().expect("a URL"))?.connect().await
    }

    /// A connection of the administrator, without a selected database.
    pub async fn root(&self) -> MySqlConnection {
        let Place::Server { root, .. } = &self.place else { panic!("a file has no administrator") };
        MySqlConnectOptions::from_url(root).expect("a URL").connect().await.expect("connected")
    }

    async fn connected(&self) -> Connected {
        match &self.place {
            Place::File(_) => Connected::Sqlite(
                SqliteConnectOptions::new().filename(self.path()).connect().await.expect("connected"),
            ),
            Place::Server { name, .. } => {
                let mut root = self.root().await;
                let script = format!("USE {name}; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
                sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut root).await.expect("used");
                Connected::Mysql(root)
            }
        }
    }

    /// Runs SQL behind the product's back.
    pub async fn tamper(&self, sql: &str) {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.connected().await {
            Connected::Sqlite(mut connection) => script.execute(&mut connection).await.map(drop),
            Connected::Mysql(mut connection) => script.execute(&mut connection).await.map(drop),
        }
        .expect("tampered");
    }

    /// Runs SQL that the schema must refuse; returns the reason.
    pub async fn refused(&self, sql: &'static str) -> String {
        let refusal = match self.connected().await {
            Connected::Sqlite(mut connection) => sqlx::raw_sql(sql).execute(&mut connection).await.map(drop),
            Connected::Mysql(mut connection) => sqlx::raw_sql(sql).execute(&mut connection).await.map(drop),
        };
        refusal.expect_err("refused").to_string()
    }

    /// Blocks all writers; readers are not affected.
    pub async fn block_writers(&self) -> WriterLock {
        let mut connection = self.connected().await;
        match &mut connection {
            Connected::Sqlite(connection) => {
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(connection).await.map(drop)
            }
            Connected::Mysql(connection) => {
                sqlx::raw_sql("BEGIN; SELECT * FROM resources FOR UPDATE").execute(connection).await.map(drop)
            }
        }
        .expect("locked");
        WriterLock { connection }
    }

    /// Cuts all connections of servers under test to this database.
    pub async fn cut_all(&self) {
        let mut root = self.root().await;
        let sessions =
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ? AND user = ?";
        let found =
            sqlx::query(sessions).bind(self.name()).bind(USER).fetch_all(&mut root).await.expect("read");
        for id in column(&found) {
            // The session may have ended by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut root).await;
        }
    }

    /// The integers in the first column of a query's rows.
    pub async fn integers(&self, sql: &'static str) -> Vec<i64> {
        match self.connected().await {
            Connected::Sqlite(mut connection) => {
                column(&sqlx::query(sql).fetch_all(&mut connection).await.expect("read"))
            }
            Connected::Mysql(mut connection) => {
                column(&sqlx::query(sql).fetch_all(&mut connection).await.expect("read"))
            }
        }
    }

    /// The integer that a query returns in its only row.
    pub async fn count(&self, sql: &'static str) -> i64 {
        self.integers(sql).await[0]
    }

    /// Audits the books as `bespeak verify` does.
    pub async fn audit(&self) -> Audit {
        let store: Arc<dyn Kept> = if self.is_file() {
            let own = self.of_file(Clock::Own);
            let options = SqliteOptions { create: false, read_only: true, readers: 1, ..own };
            Arc::new(SqliteStore::open(&self.url(), options).await.expect("opened"))
        } else {
            self.open(None, Guard::RowLock).await
        };
        let audit = store.audit().await.expect("audited");
        store.close().await;
        audit
    }

    /// Asserts that the audit finds no violation. The harness does this at the end of every test; a story calls it
    /// where the books must be consistent before the end.
    pub async fn assert_consistent(&self) {
        let audit = self.audit().await;
        assert!(audit.is_clean(), "{audit:#?}");
    }

    /// The events of the outbox in order: key, version, type and payload.
    pub async fn events(&self) -> Vec<Value> {
        const EVENTS: &str = "SELECT event_key, key_version, type, payload FROM outbox ORDER BY id";
        match self.connected().await {
            Connected::Sqlite(mut connection) => {
                let rows = sqlx::query(EVENTS).fetch_all(&mut connection).await.expect("read");
                rows.iter().map(event).collect()
            }
            Connected::Mysql(mut connection) => {
                let rows = sqlx::query(EVENTS).fetch_all(&mut connection).await.expect("read");
                rows.iter().map(event).collect()
            }
        }
    }
}

impl WriterLock {
    /// Ends the transaction, so that writers continue.
    pub async fn release(self) {
        match self.connection {
            Connected::Sqlite(connection) => connection.close().await,
            Connected::Mysql(connection) => connection.close().await,
        }
        .expect("closed");
    }
}

impl Drop for Books {
    /// Audits the books, unless the test has failed already or expects damage, and removes a database on a server.
    fn drop(&mut self) {
        let audited = !std::thread::panicking() && !self.damage_expected.load(Ordering::Relaxed);
        let books = &*self;
        // A thread with a runtime of its own, because this may be dropped inside a runtime.
        let ended = std::thread::scope(|scope| {
            let ending = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let audit = if audited { books.last_audit().await } else { None };
                    books.remove().await;
                    audit
                })
            });
            ending.join()
        });
        match ended {
            Ok(Some(audit)) => {
                assert!(audit.is_clean(), "the test left damaged books: {:#?}", audit.findings);
            }
            Ok(None) => {}
            Err(_) if !audited => {}
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Books {
    /// The audit at the end of a test; none if there is nothing to audit, because the test has stopped the server or
    /// has never migrated the database.
    async fn last_audit(&self) -> Option<Audit> {
        const TABLES: &str = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = 'retention'";
        const FILES: &str = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'retention'";
        let migrated = match &self.place {
            Place::File(_) => self.path().exists() && self.count(FILES).await > 0,
            Place::Server { root, .. } => {
                let options = MySqlConnectOptions::from_url(root).expect("a URL");
                options.connect().await.is_ok() && self.count(TABLES).await > 0
            }
        };
        if migrated { Some(self.audit().await) } else { None }
    }

    /// Removes a database on a server. The server may be gone, and the database with it.
    async fn remove(&self) {
        let Place::Server { root, name } = &self.place else { return };
        let script = format!("DROP DATABASE IF EXISTS {name}");
        let removed = async {
            let mut connection = MySqlConnectOptions::from_url(root)?.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await
        };
        if let Err(error) = removed.await {
            eprintln!("the database {name} was not removed: {error}");
        }
    }
}

fn column<R: Row>(rows: &[R]) -> Vec<i64>
where
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    rows.iter().map(|row| row.get(0)).collect()
}

fn event<R: Row>(row: &R) -> Value
where
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    R::Database: sqlx::Database,
{
    let payload: String = row.get(3);
    json!({
        "key": row.get::<String, _>(0),
        "version": row.get::<i64, _>(1),
        "type": row.get::<String, _>(2),
        "payload": serde_json::from_str::<Value>(&payload).expect("JSON"),
    })
}
