//! What is measured.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bespeak::{
    engine::{
        Command, Define, IdempotencyKey, Item, Items, Limits, Quantity, Reserve, ReserveDraft, ResourceId,
        Token,
    },
    store::{
        Mode, Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
};
use bespeak_load::{Answer, ClosedLoop, Connection, Summary, Target, TargetError, closed_loop};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{
    Error, engine, events, fleet, functions, lab, mysql,
    report::{Section, median, thousands, verdict},
    server::Server,
};

/// How to measure.
pub(crate) struct Bench {
    pub(crate) binary: PathBuf,
    /// Where the programs of the functions are.
    pub(crate) functions: PathBuf,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) rounds: usize,
    /// Started when it is first needed.
    pub(crate) database: OnceCell<mysql::Database>,
    /// Written when it is first needed.
    pub(crate) backlog: OnceCell<events::Backlog>,
    /// What the broker was, where one was started.
    pub(crate) broker: OnceLock<String>,
}

impl Bench {
    async fn database(&self) -> Result<&mysql::Database, Error> {
        self.database.get_or_try_init(mysql::Database::start).await
    }

    async fn backlog(&self) -> Result<&events::Backlog, Error> {
        let database = self.database().await?;
        self.backlog.get_or_try_init(|| events::Backlog::write(database)).await
    }
}

/// A case.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    Engine,
    Store,
    HotResource,
    SoldOut,
    Pairs,
    Million,
    Idle,
    MysqlHotResource,
    MysqlLatency,
    MysqlManyResources,
    MysqlStore,
    MysqlSoldOut,
    MysqlLoneClient,
    MysqlTenMillion,
    EventsDrain,
    EventsPurge,
    EventsConsume,
    EventsLatency,
    EventsCost,
    RedisHotResource,
    RedisSoldOut,
    FunctionsCold,
    FunctionsWarm,
    FunctionsRelay,
    FunctionsConsume,
    FunctionsConcurrency,
    LabGenerator,
    LabAgainstK6,
}

pub(crate) const ALL: [Case; 28] = [
    Case::Engine,
    Case::Store,
    Case::HotResource,
    Case::SoldOut,
    Case::Pairs,
    Case::Million,
    Case::Idle,
    Case::MysqlHotResource,
    Case::MysqlLatency,
    Case::MysqlManyResources,
    Case::MysqlStore,
    Case::MysqlSoldOut,
    Case::MysqlLoneClient,
    Case::MysqlTenMillion,
    Case::EventsDrain,
    Case::EventsPurge,
    Case::EventsConsume,
    Case::EventsLatency,
    Case::EventsCost,
    Case::RedisHotResource,
    Case::RedisSoldOut,
    Case::FunctionsCold,
    Case::FunctionsWarm,
    Case::FunctionsRelay,
    Case::FunctionsConsume,
    Case::FunctionsConcurrency,
    Case::LabGenerator,
    Case::LabAgainstK6,
];

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Store => "store",
            Self::HotResource => "hot-resource",
            Self::SoldOut => "sold-out",
            Self::Pairs => "pairs",
            Self::Million => "million",
            Self::Idle => "idle",
            Self::MysqlHotResource => "mysql-hot-resource",
            Self::MysqlLatency => "mysql-latency",
            Self::MysqlManyResources => "mysql-many-resources",
            Self::MysqlStore => "mysql-store",
            Self::MysqlSoldOut => "mysql-sold-out",
            Self::MysqlLoneClient => "mysql-lone-client",
            Self::MysqlTenMillion => "mysql-ten-million",
            Self::EventsDrain => "events-drain",
            Self::EventsPurge => "events-purge",
            Self::EventsConsume => "events-consume",
            Self::EventsLatency => "events-latency",
            Self::EventsCost => "events-cost",
            Self::RedisHotResource => "redis-hot-resource",
            Self::RedisSoldOut => "redis-sold-out",
            Self::FunctionsCold => "functions-cold",
            Self::FunctionsWarm => "functions-warm",
            Self::FunctionsRelay => "functions-relay",
            Self::FunctionsConsume => "functions-consume",
            Self::FunctionsConcurrency => "functions-concurrency",
            Self::LabGenerator => "lab-generator",
            Self::LabAgainstK6 => "lab-against-k6",
        }
    }

    pub(crate) async fn run(self, bench: &Bench) -> Result<Section, Error> {
        match self {
            Self::Engine => engine_alone(bench),
            Self::Store => store_alone().await,
            Self::HotResource => hot_resource(bench).await,
            Self::SoldOut => sold_out(bench).await,
            Self::Pairs => pairs(bench).await,
            Self::Million => million(bench).await,
            Self::Idle => idle(bench).await,
            Self::MysqlHotResource => mysql::hot_resource(bench, bench.database().await?).await,
            Self::MysqlLatency => mysql::latency(bench, bench.database().await?).await,
            Self::MysqlManyResources => mysql::many_resources(bench, bench.database().await?).await,
            Self::MysqlStore => mysql::store_alone(bench, bench.database().await?).await,
            Self::MysqlSoldOut => mysql::sold_out(bench, bench.database().await?).await,
            Self::MysqlLoneClient => mysql::lone_client(bench, bench.database().await?).await,
            Self::MysqlTenMillion => mysql::ten_million(bench, bench.database().await?).await,
            Self::EventsDrain => events::drain(bench, bench.database().await?, bench.backlog().await?).await,
            Self::EventsPurge => events::purge(bench, bench.database().await?, bench.backlog().await?).await,
            Self::EventsConsume => {
                events::consume(bench, bench.database().await?, bench.backlog().await?).await
            }
            Self::EventsLatency => events::latency(bench, bench.database().await?).await,
            Self::EventsCost => events::cost(bench, bench.database().await?).await,
            Self::RedisHotResource => fleet::overhead(bench, bench.database().await?).await,
            Self::RedisSoldOut => fleet::sold_out(bench, bench.database().await?).await,
            Self::FunctionsCold => functions::cold(bench, bench.database().await?).await,
            Self::FunctionsWarm => functions::warm(bench, bench.database().await?).await,
            Self::FunctionsRelay => {
                functions::relay(bench, bench.database().await?, bench.backlog().await?).await
            }
            Self::FunctionsConsume => {
                functions::consume(bench, bench.database().await?, bench.backlog().await?).await
            }
            Self::FunctionsConcurrency => functions::concurrency(bench, bench.database().await?).await,
            Self::LabGenerator => lab::generator(bench).await,
            Self::LabAgainstK6 => lab::against_k6(bench, bench.database().await?).await,
        }
    }
}

fn engine_alone(bench: &Bench) -> Result<Section, Error> {
    let mut rates = Vec::new();
    for _ in 0..bench.rounds {
        rates.push(engine::commands_per_second(8_000)?);
    }
    let rate = median(rates);
    Ok(Section {
        title: "The engine alone",
        what: "Holds and commits on one resource, 256 holds per working set, one core, no store.".to_owned(),
        header: vec!["commands/s"],
        rows: vec![vec![thousands(rate)]],
        verdict: verdict(rate >= 1e6, "at least 1,000,000 commands/s"),
        chart: None,
    })
}

async fn store_alone() -> Result<Section, Error> {
    const HOLDS: usize = 40_960;
    let mut rows = Vec::new();
    for size in [1, 16, 64, 256, 1024] {
        let folder = TempDir::new()?;
        let store = open(&folder).await?;
        let hot = ResourceId::new("id", "hot")?;
        define_directly(&store, std::slice::from_ref(&hot)).await?;
        let holds = if size == 1 { HOLDS / 10 } else { HOLDS };
        let mut times = Vec::new();
        let started = Instant::now();
        for _ in 0..holds / size {
            let batch = (0..size)
                .map(|_| Ok(Command::Reserve(random_hold(&hot)?)))
                .collect::<Result<Vec<_>, Error>>()?;
            let began = Instant::now();
            let executed = store.execute(&batch, Mode::Commit).await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            if !executed.outcomes.iter().all(Result::is_ok) {
                return Err("a hold was refused".into());
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = holds as f64 / started.elapsed().as_secs_f64();
        rows.push(vec![size.to_string(), thousands(rate), format!("{:.2}", median(times))]);
        store.close().await;
    }
    Ok(Section {
        title: "The store alone",
        what:
            "Batches of holds on one hot resource, one caller, no HTTP, SQLite with WAL and synchronous FULL."
                .to_owned(),
        header: vec!["holds per batch", "holds/s", "ms per batch, median"],
        rows,
        verdict: "No target: what one transaction costs, by its size.".to_owned(),
        chart: None,
    })
}

async fn hot_resource(bench: &Bench) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut lanes_256 = (0.0, 0.0);
    for (name, strategy, connections) in [
        ("lanes", "lanes", 64),
        ("lanes", "lanes", 256),
        ("lanes", "lanes", 1024),
        ("one command per transaction", "pessimistic", 256),
    ] {
        let mut rates = Vec::new();
        let mut p50s = Vec::new();
        let mut p99s = Vec::new();
        for _ in 0..bench.rounds {
            let server =
                Server::bespeak(&bench.binary, TempDir::new()?, &[("BESPEAK_STRATEGY", strategy)]).await?;
            let summary = holds(bench, &server, connections).await?;
            rates.push(summary.requests_per_second);
            p50s.push(summary.p50_ms);
            p99s.push(summary.p99_ms);
        }
        let figures = (median(rates), median(p50s), median(p99s));
        if (name, connections) == ("lanes", 256) {
            lanes_256 = (figures.0, figures.2);
        }
        rows.push(row(name, connections, figures));
    }
    let mut rates = Vec::new();
    let mut p50s = Vec::new();
    let mut p99s = Vec::new();
    for _ in 0..bench.rounds {
        let server = Server::echo().await?;
        let summary = load(bench, &server.target()?, 256, hold_request("echo".into())).await?;
        only(&summary, "200")?;
        rates.push(summary.requests_per_second);
        p50s.push(summary.p50_ms);
        p99s.push(summary.p99_ms);
    }
    rows.push(row("a route that only echoes", 256, (median(rates), median(p50s), median(p99s))));
    Ok(Section {
        title: "Holds on one hot resource",
        what: "POST /api/v1/reserve, distinct keys, keep-alive connections, SQLite with WAL and synchronous FULL.".to_owned(),
        header: vec!["what", "connections", "requests/s", "p50 ms", "p99 ms"],
        rows,
        verdict: verdict(
            lanes_256.0 >= 15_000.0 && lanes_256.1 < 40.0,
            "at least 15,000 holds/s with p99 under 40 ms at 256 connections",
        ),
        chart: None,
    })
}

async fn sold_out(bench: &Bench) -> Result<Section, Error> {
    let mut rates = Vec::new();
    let mut p50s = Vec::new();
    let mut p99s = Vec::new();
    let mut written = 0;
    for _ in 0..bench.rounds {
        let server = Server::bespeak(&bench.binary, TempDir::new()?, &[]).await?;
        let target = server.target()?;
        define(&target, "hot", 1).await?;
        let mut connection = target.connect().await?;
        let (_, answer) = hold(connection, "hot", "the-winner").await;
        if answer?.status != 200 {
            return Err("the one unit could not be held".into());
        }
        connection = target.connect().await?;
        // Whatever a first request sets in motion is over before writes are counted.
        let _ = hold(connection, "hot", "a-loser").await.1?;
        let before = server.written_bytes()?;
        let summary = load(bench, &target, 256, hold_request("hot".into())).await?;
        written += server.written_bytes()? - before;
        only(&summary, "409")?;
        rates.push(summary.requests_per_second);
        p50s.push(summary.p50_ms);
        p99s.push(summary.p99_ms);
    }
    let rate = median(rates);
    let mut cells = row("sold out", 256, (rate, median(p50s), median(p99s)));
    cells.push(written.to_string());
    Ok(Section {
        title: "Sold-out refusals",
        what: "The only unit is held; 256 connections ask for it with distinct keys. Bytes written are those of the server process (`write_bytes` in /proc/PID/io), all rounds together.".to_owned(),
        header: vec!["what", "connections", "requests/s", "p50 ms", "p99 ms", "bytes written to disk"],
        rows: vec![cells],
        verdict: verdict(rate >= 30_000.0 && written == 0, "at least 30,000/s, nothing written"),
        chart: None,
    })
}

async fn pairs(bench: &Bench) -> Result<Section, Error> {
    const RESOURCES: usize = 1_000;
    let mut rates = Vec::new();
    let mut p99s = Vec::new();
    for _ in 0..bench.rounds {
        let server = Server::bespeak(&bench.binary, TempDir::new()?, &[]).await?;
        let target = server.target()?;
        for n in 0..RESOURCES {
            define(&target, &format!("r{n}"), 1_000_000_000).await?;
        }
        let summary = load(bench, &target, 256, |connection, number, turn| async move {
            let resource =
                format!("r{}", (number * 7919 + usize::try_from(turn).unwrap_or(0) * 104_729) % RESOURCES);
            let (connection, held) = hold(connection, &resource, &random_key()).await;
            match held {
                Ok(answer) if answer.status == 200 => {
                    let token =
                        serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["token"].clone();
                    connection.post("/api/v1/commit", &[], json!({"token": token}).to_string()).await
                }
                other => (connection, other),
            }
        })
        .await?;
        only(&summary, "200")?;
        rates.push(summary.requests_per_second);
        p99s.push(summary.p99_ms);
    }
    let rate = median(rates);
    Ok(Section {
        title: "Hold and commit",
        what: "Pairs of a hold and its commit, over 1,000 resources, 256 connections.".to_owned(),
        header: vec!["pairs/s", "p99 of a pair, ms"],
        rows: vec![vec![thousands(rate), format!("{:.1}", median(p99s))]],
        verdict: verdict(rate >= 6_000.0, "at least 6,000 pairs/s"),
        chart: None,
    })
}

async fn million(bench: &Bench) -> Result<Section, Error> {
    let full = TempDir::new()?;
    fill(&full, 1_000_000).await?;
    let mut empty_rates = Vec::new();
    let mut full_rates = Vec::new();
    let mut full = Some(full);
    for _ in 0..bench.rounds {
        let server = Server::bespeak(&bench.binary, TempDir::new()?, &[]).await?;
        empty_rates.push(holds(bench, &server, 256).await?.requests_per_second);
        drop(server);
        let folder = full.take().ok_or("the folder is in use")?;
        let mut server = Server::bespeak(&bench.binary, folder, &[]).await?;
        full_rates.push(holds(bench, &server, 256).await?.requests_per_second);
        full = Some(std::mem::replace(&mut server.folder, TempDir::new()?));
    }
    let ratios = full_rates.iter().zip(&empty_rates).map(|(full, empty)| full / empty).collect();
    let ratio = median(ratios);
    Ok(Section {
        title: "One million reservations in the file",
        what: "Holds on one hot resource, 256 connections, in turn on an empty file and on one with a million committed reservations (and their 2 million events).".to_owned(),
        header: vec!["empty, holds/s", "a million, holds/s", "ratio, pair by pair"],
        rows: vec![vec![thousands(median(empty_rates)), thousands(median(full_rates)), format!("{ratio:.2}")]],
        verdict: verdict(ratio >= 0.85, "within 15 %"),
        chart: None,
    })
}

async fn idle(bench: &Bench) -> Result<Section, Error> {
    let server = Server::bespeak(&bench.binary, TempDir::new()?, &[]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let resident = server.resident_mib()?;
    Ok(Section {
        title: "An idle server",
        what: "Resident memory (`VmRSS`) three seconds after the start.".to_owned(),
        header: vec!["MiB"],
        rows: vec![vec![format!("{resident:.1}")]],
        verdict: verdict(resident < 30.0, "under 30 MB"),
        chart: None,
    })
}

async fn holds(bench: &Bench, server: &Server, connections: usize) -> Result<Summary, Error> {
    let target = server.target()?;
    define(&target, "hot", 9_000_000_000).await?;
    let summary = load(bench, &target, connections, hold_request("hot".into())).await?;
    only(&summary, "200")?;
    Ok(summary)
}

pub(crate) async fn load<F, Fut>(
    bench: &Bench,
    target: &Target,
    connections: usize,
    step: F,
) -> Result<Summary, Error>
where
    F: Fn(Connection, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Connection, Result<Answer, TargetError>)> + Send,
{
    let load = ClosedLoop { connections, warm_up: bench.warm_up, duration: bench.duration };
    Ok(closed_loop(target, &load, step).await?)
}

type Sent = Pin<Box<dyn Future<Output = (Connection, Result<Answer, TargetError>)> + Send>>;

/// A hold of one unit, under a key that no other request of this benchmark has.
pub(crate) fn hold_request(
    resource: Arc<str>,
) -> impl Fn(Connection, usize, u64) -> Sent + Send + Sync + 'static {
    move |connection, _, _| {
        let (resource, key) = (resource.clone(), random_key());
        Box::pin(async move { hold(connection, &resource, &key).await })
    }
}

pub(crate) async fn hold(
    connection: Connection,
    resource: &str,
    key: &str,
) -> (Connection, Result<Answer, TargetError>) {
    let body = format!(r#"{{"resourceId":"{resource}","quantity":1,"ttlSeconds":3600}}"#);
    connection.post("/api/v1/reserve", &[("idempotency-key", key)], body).await
}

pub(crate) async fn define(target: &Target, resource: &str, total: u64) -> Result<(), Error> {
    let body = json!({"resourceId": resource, "totalStock": total}).to_string();
    let answer = target.connect().await?.send(Method::POST, "/api/v1/resources", &[], body.into()).await?;
    if answer.status == 200 { Ok(()) } else { Err(format!("{resource}: {}", answer.status).into()) }
}

/// A figure counts only if every answer was the one that was measured.
pub(crate) fn only(summary: &Summary, status: &str) -> Result<(), Error> {
    if summary.counts.keys().all(|counted| counted == status) {
        Ok(())
    } else {
        Err(format!("expected only {status}, got {:?}", summary.counts).into())
    }
}

fn row(what: &str, connections: usize, (rate, p50, p99): (f64, f64, f64)) -> Vec<String> {
    vec![what.to_owned(), connections.to_string(), thousands(rate), format!("{p50:.1}"), format!("{p99:.1}")]
}

/// Fills a database with committed reservations, through the store, as years of use would.
async fn fill(folder: &TempDir, reservations: usize) -> Result<(), Error> {
    const BATCH: usize = 1_000;
    const RESOURCES: usize = 1_000;
    let store = open(folder).await?;
    let ids =
        (0..RESOURCES).map(|n| ResourceId::new("id", &format!("old-{n}"))).collect::<Result<Vec<_>, _>>()?;
    define_directly(&store, &ids).await?;
    for batch in 0..reservations / BATCH {
        let holds = (0..BATCH).map(|n| random_hold(&ids[n % RESOURCES])).collect::<Result<Vec<_>, _>>()?;
        let commits: Vec<Command> = holds.iter().map(|hold| Command::Commit(hold.token)).collect();
        let mut commands: Vec<Command> = holds.into_iter().map(Command::Reserve).collect();
        commands.extend(commits);
        let executed = store.execute(&commands, Mode::Commit).await?;
        if !executed.outcomes.iter().all(Result::is_ok) {
            return Err(format!("batch {batch} was not accepted").into());
        }
    }
    store.close().await;
    Ok(())
}

async fn open(folder: &TempDir) -> Result<SqliteStore, Error> {
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let store = SqliteStore::open(&url, SqliteOptions::default()).await?;
    store.migrate().await?;
    Ok(store)
}

pub(crate) async fn define_directly(store: &dyn Store, ids: &[ResourceId]) -> Result<(), Error> {
    let define = |id: &ResourceId| Define { resource_id: id.clone(), total: 1_000_000_000, fulfilment: None };
    let defines: Vec<Command> = ids.iter().map(|id| Command::Define(define(id))).collect();
    store.execute(&defines, Mode::Commit).await?;
    Ok(())
}

pub(crate) fn random_hold(id: &ResourceId) -> Result<Reserve, Error> {
    let limits = Limits::default();
    let item = Item { resource_id: id.clone(), quantity: Quantity::new("quantity", 1)? };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits)?,
        ttl: limits.ttl("ttlSeconds", None)?,
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(&random_key())?,
    };
    Ok(draft.with_token(Token::from_uuid(Uuid::now_v7())))
}

/// A random key, as clients draw them: they scatter over the whole index.
pub(crate) fn random_key() -> String {
    Uuid::from_u128(fastrand::u128(..)).to_string()
}
