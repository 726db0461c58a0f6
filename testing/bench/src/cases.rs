//! The table of all cases, and the database that cases share.
//!
//! Next: `embedded.rs` for the core on SQLite, then `mysql/`, `events/`, `coordination.rs`, `functions/` and `lab.rs`.

use std::pin::Pin;

use tokio::sync::OnceCell;

use crate::{
    Error,
    bench::Bench,
    coordination, embedded,
    events::{self, Backlog},
    functions, lab,
    mysql::{self, Database},
    report::Section,
};

/// One run of the benchmarks: its parameters, and what its cases share.
pub(crate) struct Session {
    pub(crate) bench: Bench,
    /// Started by the first case that needs it.
    database: OnceCell<Database>,
    /// Written by the first case that needs it.
    backlog: OnceCell<Backlog>,
}

impl Session {
    pub(crate) fn new(bench: Bench) -> Self {
        Self { bench, database: OnceCell::new(), backlog: OnceCell::new() }
    }

    /// The shared database, if a case has started it.
    pub(crate) fn started_database(&self) -> Option<&Database> {
        self.database.get()
    }

    async fn database(&self) -> Result<&Database, Error> {
        self.database.get_or_try_init(Database::start).await
    }

    async fn backlog(&self) -> Result<&Backlog, Error> {
        let database = self.database().await?;
        self.backlog.get_or_try_init(|| Backlog::write(database)).await
    }
}

/// The future of a case.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Section, Error>> + 'a>>;

/// A case: its name, and the function that measures it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Session) -> Running<'a>,
}

/// Makes a [`Case`] of a name and an expression over the session and what the case needs of it.
macro_rules! case {
    ($name:literal, |$bench:ident| $measure:expr) => {
        case!(@ $name, session, { let $bench = &session.bench; $measure })
    };
    ($name:literal, |$bench:ident, $database:ident| $measure:expr) => {
        case!(@ $name, session, {
            let ($bench, $database) = (&session.bench, session.database().await?);
            $measure
        })
    };
    ($name:literal, |$bench:ident, $database:ident, $backlog:ident| $measure:expr) => {
        case!(@ $name, session, {
            let ($bench, $database) = (&session.bench, session.database().await?);
            let $backlog = session.backlog().await?;
            $measure
        })
    };
    (@ $name:literal, $session:ident, $body:block) => {
        Case { name: $name, run: |$session| Box::pin(async move { $body }) }
    };
}

/// All cases, in the order of the report.
pub(crate) const ALL: &[Case] = &[
    case!("engine", |bench| embedded::engine_alone(bench)),
    case!("store", |_bench| embedded::store_alone().await),
    case!("hot-resource", |bench| embedded::hot_resource(bench).await),
    case!("sold-out", |bench| embedded::sold_out(bench).await),
    case!("pairs", |bench| embedded::pairs(bench).await),
    case!("million", |bench| embedded::million(bench).await),
    case!("idle", |bench| embedded::idle(bench).await),
    case!("mysql-hot-resource", |bench, database| mysql::hot_resource(bench, database).await),
    case!("mysql-latency", |bench, database| mysql::latency(bench, database).await),
    case!("mysql-many-resources", |bench, database| mysql::many_resources(bench, database).await),
    case!("mysql-store", |bench, database| mysql::store_alone(bench, database).await),
    case!("mysql-sold-out", |bench, database| mysql::sold_out(bench, database).await),
    case!("mysql-lone-client", |bench, database| mysql::lone_client(bench, database).await),
    case!("mysql-ten-million", |bench, database| mysql::ten_million(bench, database).await),
    case!("events-drain", |bench, database, backlog| events::drain(bench, database, backlog).await),
    case!("events-purge", |bench, database, backlog| events::purge(bench, database, backlog).await),
    case!("events-consume", |bench, database, backlog| events::consume(bench, database, backlog).await),
    case!("events-latency", |bench, database| events::latency(bench, database).await),
    case!("events-cost", |bench, database| events::cost(bench, database).await),
    case!("redis-hot-resource", |bench, database| coordination::overhead(bench, database).await),
    case!("redis-sold-out", |bench, database| coordination::sold_out(bench, database).await),
    case!("functions-cold", |bench, database| functions::cold(bench, database).await),
    case!("functions-warm", |bench, database| functions::warm(bench, database).await),
    case!("functions-relay", |bench, database, backlog| functions::relay(bench, database, backlog).await),
    case!("functions-consume", |bench, database, backlog| functions::consume(bench, database, backlog).await),
    case!("functions-concurrency", |bench, database| functions::concurrency(bench, database).await),
    case!("lab-generator", |bench| lab::generator(bench).await),
    case!("lab-against-k6", |bench, database| lab::against_k6(bench, database).await),
];
