//! A database of a test's own, and a look at it from outside.

use std::sync::Arc;

use bespeak::store::{
    Audit, Clock, Database as Kept, FixedClock, Guard,
    mysql::{MysqlOptions, MysqlStore},
    sqlite::{SqliteOptions, SqliteStore},
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

/// A database: a file, or one on a server.
pub struct Books(Place);

enum Place {
    File(TempDir),
    Server { root: Url, name: String },
}

/// Holds up all who write; ends when dropped.
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
/// There is none, and none can be started; says what to install.
pub async fn mysql_server() -> &'static Mysql {
    static SERVER: OnceCell<Mysql> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async { Mysql::provide().await.unwrap_or_else(|missing| panic!("{missing}")) })
        .await
}

/// The account that servers under test use: it owns its databases, and is no administrator.
const USER: &str = "bespeak";
const PASSWORD: &str = "be'speak";

impl Books {
    /// A file that is not there yet.
    pub fn sqlite() -> Self {
        Self(Place::File(TempDir::new().expect("a folder for the database")))
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
        let books = Self(Place::Server { root, name });
        let mut root = books.root().await;
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut root).await.expect("an empty database");
        books
    }

    /// Another empty one of its kind, on the shared server where it is on a server.
    pub async fn another(&self) -> Self {
        if self.is_file() { Self::sqlite() } else { Self::mysql().await }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        matches!(self.0, Place::File(_))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match &self.0 {
            Place::File(_) => format!("sqlite://{}", self.path().display()),
            Place::Server { root, .. } => {
                self.url_at(root.host_str().expect("a host"), root.port_or_known_default().unwrap_or(3306))
            }
        }
    }

    /// The URL by which the database is reached at another address: that of a proxy.
    pub fn url_at(&self, host: &str, port: u16) -> String {
        let Place::Server { root, name } = &self.0 else { panic!("a file has no address") };
        let mut url = root.clone();
        url.set_username(USER).expect("a username");
        url.set_password(Some(PASSWORD)).expect("a password");
        url.set_host(Some(host)).expect("a host");
        url.set_port(Some(port)).expect("a port");
        url.set_path(name);
        url.to_string()
    }

    /// Its path, where it is a file.
    pub fn path(&self) -> std::path::PathBuf {
        let Place::File(folder) = &self.0 else { panic!("a database on a server has no path") };
        folder.path().join("books.db")
    }

    /// Opens it, as a process does. Does not migrate.
    pub async fn open(&self, clock: Option<&FixedClock>, guard: Guard) -> Arc<dyn Kept> {
        let clock = clock.cloned().map_or(Clock::Own, Clock::Fixed);
        if self.is_file() {
            let options = SqliteOptions { clock, ..SqliteOptions::default() };
            return Arc::new(SqliteStore::open(&self.url(), options).await.expect("opened"));
        }
        let options = MysqlOptions { clock, guard, ..MysqlOptions::default() };
        Arc::new(MysqlStore::new(&self.url(), options).expect("a valid URL"))
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        let Place::Server { name, .. } = &self.0 else { panic!("a file has no name on a server") };
        name
    }

    /// The server's address.
    pub fn address(&self) -> std::net::SocketAddr {
        let Place::Server { root, .. } = &self.0 else { panic!("a file has no address") };
        let host = root.host_str().expect("a host");
        let mut addresses =
            std::net::ToSocketAddrs::to_socket_addrs(&(host, root.port_or_known_default().unwrap_or(3306)))
                .expect("an address");
        addresses.next().expect("an address")
    }

    /// A connection of the account that servers use.
    ///
    /// # Errors
    /// The server takes none.
    pub async fn customer(&self) -> Result<MySqlConnection, sqlx::Error> {
        MySqlConnectOptions::from_url(&self.url().parse().expect("a URL"))?.connect().await
    }

    /// A connection of the administrator, to the server as a whole.
    pub async fn root(&self) -> MySqlConnection {
        let Place::Server { root, .. } = &self.0 else { panic!("a file has no administrator") };
        MySqlConnectOptions::from_url(root).expect("a URL").connect().await.expect("connected")
    }

    async fn connected(&self) -> Connected {
        match &self.0 {
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

    /// Runs SQL, as nobody should.
    pub async fn tamper(&self, sql: &str) {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.connected().await {
            Connected::Sqlite(mut connection) => script.execute(&mut connection).await.map(drop),
            Connected::Mysql(mut connection) => script.execute(&mut connection).await.map(drop),
        }
        .expect("tampered");
    }

    /// Runs SQL that the schema must refuse; says why it did.
    pub async fn refused(&self, sql: &'static str) -> String {
        let refusal = match self.connected().await {
            Connected::Sqlite(mut connection) => sqlx::raw_sql(sql).execute(&mut connection).await.map(drop),
            Connected::Mysql(mut connection) => sqlx::raw_sql(sql).execute(&mut connection).await.map(drop),
        };
        refusal.expect_err("refused").to_string()
    }

    /// Keeps everybody from writing, while reads go on.
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

    /// Cuts all connections that servers have to it.
    pub async fn cut_all(&self) {
        let mut root = self.root().await;
        let sessions =
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ? AND user = ?";
        let found =
            sqlx::query(sessions).bind(self.name()).bind(USER).fetch_all(&mut root).await.expect("read");
        for id in column(&found) {
            // It may have ended by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut root).await;
        }
    }

    /// The whole numbers that a query returns in its first column.
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

    /// The one whole number that a query returns.
    pub async fn count(&self, sql: &'static str) -> i64 {
        self.integers(sql).await[0]
    }

    /// The audit's findings.
    pub async fn audit(&self) -> Audit {
        let store: Arc<dyn Kept> = if self.is_file() {
            let options = SqliteOptions { create: false, read_only: true, readers: 1, clock: Clock::Own };
            Arc::new(SqliteStore::open(&self.url(), options).await.expect("opened"))
        } else {
            self.open(None, Guard::RowLock).await
        };
        let audit = store.audit().await.expect("audited");
        store.close().await;
        audit
    }

    /// Asserts that every invariant that can be read from the books holds.
    pub async fn assert_consistent(&self) {
        let audit = self.audit().await;
        assert!(audit.is_clean(), "{audit:#?}");
    }

    /// The outbox in order: key, version, type, payload.
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
    /// Lets them write again.
    pub async fn release(self) {
        match self.connection {
            Connected::Sqlite(connection) => connection.close().await,
            Connected::Mysql(connection) => connection.close().await,
        }
        .expect("closed");
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let Place::Server { root, name } = &self.0 else { return };
        let options = MySqlConnectOptions::from_url(root).expect("a URL");
        let script = format!("DROP DATABASE IF EXISTS {name}");
        // A runtime of its own: this may be dropped inside of one. The server may be gone, and with it the database.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = options.connect().await?;
                sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.map(drop)
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("{name} was left behind: {error}");
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
