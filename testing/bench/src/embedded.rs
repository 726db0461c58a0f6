//! The cases without other servers: the engine, the SQLite store, and `bespeak serve` on SQLite.

use std::time::{Duration, Instant};

use bespeak::{
    engine::{Command, ResourceId},
    store::{
        CommitMode, Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
};
use bespeak_lab::load::{Summary, thousands};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Error,
    bench::Bench,
    client::{define, define_directly, hold, hold_request, load, only, random_hold, random_key},
    engine,
    report::{Section, median, verdict},
    server::Server,
};

pub(crate) fn engine_alone(bench: &Bench) -> Result<Section, Error> {
    let mut rates = Vec::new();
    for _ in 0..bench.rounds {
        rates.push(engine::commands_per_second(8_000)?);
    }
    let rate = median(rates);
    Ok(Section {
        title: "The engine alone",
        what: "Holds and commits on one resource, 256 holds per working set, one core, without a store."
            .to_owned(),
        header: vec!["commands/s"],
        rows: vec![vec![thousands(rate)]],
        verdict: verdict(rate >= 1e6, "at least 1,000,000 commands/s"),
        chart: None,
    })
}

pub(crate) async fn store_alone() -> Result<Section, Error> {
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
            let executed = store.execute(&batch, CommitMode::Commit).await?;
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
            "Batches of holds on one hot resource, one caller, without HTTP, SQLite with WAL and synchronous FULL."
                .to_owned(),
        header: vec!["holds per batch", "holds/s", "ms per batch, median"],
        rows,
        verdict: "No target; the table shows the cost of a transaction by its size.".to_owned(),
        chart: None,
    })
}

pub(crate) async fn hot_resource(bench: &Bench) -> Result<Section, Error> {
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
        what: "POST /api/v1/reserve with distinct keys and keep-alive connections, SQLite with WAL and synchronous \
               FULL."
            .to_owned(),
        header: vec!["configuration", "connections", "requests/s", "p50 ms", "p99 ms"],
        rows,
        verdict: verdict(
            lanes_256.0 >= 15_000.0 && lanes_256.1 < 40.0,
            "at least 15,000 holds/s with p99 under 40 ms at 256 connections",
        ),
        chart: None,
    })
}

pub(crate) async fn sold_out(bench: &Bench) -> Result<Section, Error> {
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
            return Err("the only unit could not be held".into());
        }
        connection = target.connect().await?;
        // Work that a first request triggers must be over before writes are counted.
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
        what: "The only unit is held; 256 connections request it with distinct keys. The bytes are those that the \
               server process wrote in all rounds together (`write_bytes` in /proc/PID/io)."
            .to_owned(),
        header: vec!["requests", "connections", "requests/s", "p50 ms", "p99 ms", "bytes written to disk"],
        rows: vec![cells],
        verdict: verdict(rate >= 30_000.0 && written == 0, "at least 30,000/s, and nothing written to disk"),
        chart: None,
    })
}

pub(crate) async fn pairs(bench: &Bench) -> Result<Section, Error> {
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
        what: "Pairs of a hold and its commit on 1,000 resources, 256 connections.".to_owned(),
        header: vec!["pairs/s", "p99 of a pair, ms"],
        rows: vec![vec![thousands(rate), format!("{:.1}", median(p99s))]],
        verdict: verdict(rate >= 6_000.0, "at least 6,000 pairs/s"),
        chart: None,
    })
}

pub(crate) async fn million(bench: &Bench) -> Result<Section, Error> {
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
        what:
            "Holds on one hot resource, 256 connections, in turn on an empty file and on one with a million \
               committed reservations and their 2 million events."
                .to_owned(),
        header: vec!["empty, holds/s", "a million, holds/s", "ratio, pair by pair"],
        rows: vec![vec![
            thousands(median(empty_rates)),
            thousands(median(full_rates)),
            format!("{ratio:.2}"),
        ]],
        verdict: verdict(ratio >= 0.85, "within 15 % of the empty file"),
        chart: None,
    })
}

pub(crate) async fn idle(bench: &Bench) -> Result<Section, Error> {
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

/// Measures holds on one hot resource.
async fn holds(bench: &Bench, server: &Server, connections: usize) -> Result<Summary, Error> {
    let target = server.target()?;
    define(&target, "hot", 9_000_000_000).await?;
    let summary = load(bench, &target, connections, hold_request("hot".into())).await?;
    only(&summary, "200")?;
    Ok(summary)
}

fn row(what: &str, connections: usize, (rate, p50, p99): (f64, f64, f64)) -> Vec<String> {
    vec![what.to_owned(), connections.to_string(), thousands(rate), format!("{p50:.1}"), format!("{p99:.1}")]
}

/// Fills a database with committed reservations, through the store.
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
        let executed = store.execute(&commands, CommitMode::Commit).await?;
        if !executed.outcomes.iter().all(Result::is_ok) {
            return Err(format!("batch {batch} was refused").into());
        }
    }
    store.close().await;
    Ok(())
}

/// Opens a SQLite store in a folder and creates its tables.
async fn open(folder: &TempDir) -> Result<SqliteStore, Error> {
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let store = SqliteStore::open(&url, SqliteOptions::default()).await?;
    store.migrate().await?;
    Ok(store)
}
