//! What is measured, by name. Next: `embedded.rs` for the core, `mysql/`, `events/`, `fleet.rs`, `functions/`, `lab.rs`.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use tokio::sync::OnceCell;

use crate::{Error, coordination, embedded, events, functions, lab, mysql, report::Section};

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
            Self::Engine => embedded::engine_alone(bench),
            Self::Store => embedded::store_alone().await,
            Self::HotResource => embedded::hot_resource(bench).await,
            Self::SoldOut => embedded::sold_out(bench).await,
            Self::Pairs => embedded::pairs(bench).await,
            Self::Million => embedded::million(bench).await,
            Self::Idle => embedded::idle(bench).await,
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
            Self::RedisHotResource => coordination::overhead(bench, bench.database().await?).await,
            Self::RedisSoldOut => coordination::sold_out(bench, bench.database().await?).await,
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
