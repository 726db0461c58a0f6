//! The cases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::{
    engine::{Command, ResourceId},
    store::{
        CommitMode, Guard, Store,
        mysql::{MysqlOptions, MysqlStore},
    },
};
use bespeak_lab::load::thousands;
use tempfile::TempDir;

use super::{Contender, Database, hot};
use crate::{
    Error,
    cases::Bench,
    chart::Chart,
    client::{define, hold, hold_request, load, only, random_hold, random_key},
    report::{Section, median, verdict},
    server::Server,
};

const LANES: Contender = Contender::Strategy("lanes");
const CONDITIONAL: Contender = Contender::Strategy("conditional");
const PESSIMISTIC: Contender = Contender::Strategy("pessimistic");

/// Medians over the rounds: requests/s, p50 and p99 in ms.
type Figures = (f64, f64, f64);

async fn rounds(
    bench: &Bench,
    database: &Database,
    contender: Contender,
    connections: usize,
    latency: Duration,
) -> Result<Figures, Error> {
    let (mut rates, mut p50s, mut p99s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let summary = hot(bench, database, contender, connections, latency).await?;
        rates.push(summary.requests_per_second);
        p50s.push(summary.p50_ms);
        p99s.push(summary.p99_ms);
    }
    Ok((median(rates), median(p50s), median(p99s)))
}

fn row(what: &str, connections: usize, (rate, p50, p99): Figures) -> Vec<String> {
    vec![what.to_owned(), connections.to_string(), thousands(rate), format!("{p50:.1}"), format!("{p99:.1}")]
}

const HEADER: [&str; 5] = ["who", "connections", "holds/s", "p50 ms", "p99 ms"];

pub(crate) async fn hot_resource(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    let mut reached = true;
    let mut ratios = Vec::new();
    for connections in [64, 256, 1024] {
        let mut of = Vec::new();
        for contender in [LANES, CONDITIONAL, PESSIMISTIC, Contender::Handwritten] {
            let figures = rounds(bench, database, contender, connections, Duration::ZERO).await?;
            bars.push((format!("{}, {connections}", contender.name()), figures.0));
            rows.push(row(contender.name(), connections, figures));
            of.push(figures);
        }
        let by = |n: usize| of[0].0 / of[n].0;
        ratios.push(format!(
            "at {connections} connections {:.1} times `conditional`, {:.1} times `pessimistic`, {:.1} times hand-written",
            by(1),
            by(2),
            by(3)
        ));
        if connections >= 256 {
            reached &= by(1) >= 5.0 && by(2) >= 7.0 && of[0].0 >= 12_000.0;
        }
        if connections == 256 {
            reached &= of[0].2 < 60.0;
        }
    }
    Ok(Section {
        title: "MySQL: holds on one hot resource",
        what: "POST /api/v1/reserve, distinct keys, keep-alive connections; database, server and load generator on the \
               same cores. A fresh database for each measurement."
            .to_owned(),
        header: HEADER.to_vec(),
        rows,
        verdict: format!(
            "`lanes` is {}.\n\n{}",
            ratios.join("; "),
            verdict(
                reached,
                "at 256 connections and above at least 5 times `conditional`, 7 times `pessimistic` and 12,000 holds/s; \
                 p99 at 256 under 60 ms"
            )
        ),
        chart: Some(Chart { title: "Holds per second on one hot resource, by connections", bars }),
    })
}

pub(crate) async fn latency(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    let mut seen = Vec::new();
    for ms in [1_u64, 5] {
        for contender in [LANES, CONDITIONAL, PESSIMISTIC, Contender::Handwritten] {
            let figures = rounds(bench, database, contender, 256, Duration::from_millis(ms)).await?;
            let name = format!("{}, {ms} ms", contender.name());
            rows.push(row(&name, 256, figures));
            bars.push((name, figures.0));
            seen.push(figures.0);
        }
    }
    let ratio = seen[0] / seen[1];
    Ok(Section {
        title: "MySQL: a database that is 1 ms and 5 ms away",
        what: "The same, 256 connections, with a proxy that adds so much to each round trip, as a managed database in \
               another zone has it."
            .to_owned(),
        header: HEADER.to_vec(),
        rows,
        verdict: format!(
            "At 1 ms `lanes` is {ratio:.1} times `conditional`.\n\n{} {}",
            verdict(ratio >= 12.0, "at 1 ms at least 12 times `conditional`"),
            verdict(
                seen[4] >= 4_000.0,
                "at 5 ms at least 4,000 holds/s (where the hand-written transaction falls below 250/s)"
            )
        ),
        chart: Some(Chart { title: "Holds per second on one hot resource, by distance of the database", bars }),
    })
}

pub(crate) async fn many_resources(bench: &Bench, database: &Database) -> Result<Section, Error> {
    const RESOURCES: usize = 1_000;
    let mut rows = Vec::new();
    let mut least = f64::MAX;
    let mut bars = Vec::new();
    for (name, exponent) in [("uniform", 0.0), ("Zipf 1.0", 1.0)] {
        let cumulative = Arc::new(cumulative(RESOURCES, exponent));
        let (mut rates, mut p99s) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let books = database.fresh().await?;
            let server = LANES.start(bench, &database.url(&books, None)?).await?;
            let target = server.target()?;
            for n in 0..RESOURCES {
                define(&target, &format!("r{n}"), 9_000_000_000).await?;
            }
            let cumulative = cumulative.clone();
            let summary = load(bench, &target, 256, move |connection, _, _| {
                let drawn = fastrand::f64();
                let resource =
                    format!("r{}", cumulative.partition_point(|part| *part < drawn).min(RESOURCES - 1));
                async move { hold(connection, &resource, &random_key()).await }
            })
            .await?;
            only(&summary, "200")?;
            rates.push(summary.requests_per_second);
            p99s.push(summary.p99_ms);
            drop(server);
            database.drop(&books).await?;
        }
        let rate = median(rates);
        least = least.min(rate);
        bars.push((format!("lanes, {name}"), rate));
        rows.push(vec![name.to_owned(), thousands(rate), format!("{:.1}", median(p99s))]);
    }
    Ok(Section {
        title: "MySQL: holds on 1,000 resources",
        what: "256 connections, each hold on a resource that is drawn anew; `lanes`, 8 of them.".to_owned(),
        header: vec!["drawn", "holds/s", "p99 ms"],
        rows,
        verdict: verdict(least >= 10_000.0, "at least 10,000 holds/s with either"),
        chart: Some(Chart { title: "Holds per second on 1,000 resources", bars }),
    })
}

/// The distribution function of ranks that are drawn as 1 / rank^exponent.
#[expect(clippy::cast_precision_loss, reason = "ranks up to a thousand")]
fn cumulative(ranks: usize, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).collect();
    let all: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        })
        .collect()
}

pub(crate) async fn store_alone(bench: &Bench, database: &Database) -> Result<Section, Error> {
    const BATCH: usize = 100;
    let mut rows = Vec::new();
    let mut best = 0.0_f64;
    for (guard, name, callers) in [
        (Guard::RowLock, "row lock", 8),
        (Guard::RowLock, "row lock", 1),
        (Guard::Conditional, "conditional update", 8),
    ] {
        let mut rates = Vec::new();
        for _ in 0..bench.rounds {
            rates.push(callers_of_store(bench, database, guard, callers, BATCH).await?);
        }
        let rate = median(rates);
        best = best.max(rate);
        rows.push(vec![name.to_owned(), callers.to_string(), thousands(rate)]);
    }
    Ok(Section {
        title: "MySQL: the store alone",
        what: format!(
            "Batches of {BATCH} holds on one hot resource, no HTTP, each caller with a connection of its own."
        ),
        header: vec!["guard", "callers", "reservations/s"],
        rows,
        verdict: format!(
            "Beside it: TigerBeetle, on the same kind of machine, 63,973 transfers/s with 100 per request and 8 clients.\n\n{}",
            verdict(best >= 40_000.0, "(an aim) 40,000 reservations/s")
        ),
        chart: None,
    })
}

async fn callers_of_store(
    bench: &Bench,
    database: &Database,
    guard: Guard,
    callers: usize,
    batch: usize,
) -> Result<f64, Error> {
    let books = database.fresh().await?;
    let options = MysqlOptions { guard, ..MysqlOptions::default() };
    let store = Arc::new(MysqlStore::new(&database.url(&books, None)?, options)?);
    store.migrate().await?;
    let hot = ResourceId::new("id", "hot")?;
    crate::client::define_directly(&*store, std::slice::from_ref(&hot)).await?;
    let started = Instant::now();
    let (from, until) = (started + bench.warm_up, started + bench.warm_up + bench.duration);
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (store, hot) = (store.clone(), hot.clone());
        tasks.push(tokio::spawn(async move {
            let mut held = 0_u32;
            while Instant::now() < until {
                let counted = Instant::now() >= from;
                let holds =
                    (0..batch)
                        .map(|_| Ok(Command::Reserve(random_hold(&hot)?)))
                        .collect::<Result<Vec<_>, Error>>()?;
                let executed = store.execute(&holds, CommitMode::Commit).await?;
                if !executed.outcomes.iter().all(Result::is_ok) {
                    return Err::<_, Error>("a hold was refused".into());
                }
                held += if counted { u32::try_from(batch)? } else { 0 };
            }
            Ok(held)
        }));
    }
    let mut held = 0;
    for task in tasks {
        held += task.await??;
    }
    let rate = f64::from(held) / from.elapsed().as_secs_f64();
    store.close().await;
    database.drop(&books).await?;
    Ok(rate)
}

pub(crate) async fn sold_out(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let (mut rates, mut p99s, mut per) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let books = database.fresh().await?;
        let server = LANES.start(bench, &database.url(&books, None)?).await?;
        let target = server.target()?;
        define(&target, "hot", 1).await?;
        if hold(target.connect().await?, "hot", "the-winner").await.1?.status != 200 {
            return Err("the one unit could not be held".into());
        }
        let before = database.questions().await?;
        let summary = load(bench, &target, 256, hold_request("hot".into())).await?;
        only(&summary, "409")?;
        let asked = database.questions().await? - before;
        // Those of the warm-up were asked as well, and are not among the answers that count.
        let all = summary.requests_per_second * (bench.warm_up + bench.duration).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
        per.push(all / asked as f64);
        rates.push(summary.requests_per_second);
        p99s.push(summary.p99_ms);
        drop(server);
        database.drop(&books).await?;
    }
    let (rate, per) = (median(rates), median(per));
    Ok(Section {
        title: "MySQL: sold-out refusals",
        what: "The only unit is held; 256 connections ask for it with distinct keys. `Questions` is the server's own count \
               of statements."
            .to_owned(),
        header: vec!["refusals/s", "p99 ms", "refusals per question to the database"],
        rows: vec![vec![thousands(rate), format!("{:.1}", median(p99s)), format!("{per:.0}")]],
        verdict: verdict(rate >= 30_000.0 && per > 20.0, "at least 30,000/s, and under 1 question per 20 refusals"),
        chart: None,
    })
}

pub(crate) async fn lone_client(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut p50s = Vec::new();
    for contender in [LANES, Contender::Handwritten] {
        for ms in [0, 1] {
            let figures = rounds(bench, database, contender, 1, Duration::from_millis(ms)).await?;
            let away = if ms == 0 { "loopback" } else { "1 ms away" };
            rows.push(vec![
                contender.name().to_owned(),
                away.to_owned(),
                format!("{:.2}", figures.1),
                format!("{:.2}", figures.2),
            ]);
            p50s.push(figures.1);
        }
    }
    let (near, far) = (p50s[0] / p50s[2], p50s[1] / p50s[3]);
    Ok(Section {
        title: "MySQL: a lone client",
        what: "One connection, one hold after the other, over HTTP both.".to_owned(),
        header: vec!["who", "database", "p50 ms", "p99 ms"],
        rows,
        verdict: format!(
            "{near:.2} times the hand-written transaction on loopback, {far:.2} times where the database is 1 ms away.\n\n{}",
            verdict(near <= 1.5, "p50 within 1.5 times")
        ),
        chart: None,
    })
}

/// Rows of `reservations` that were there before.
const MANY: u64 = 10_000_000;

pub(crate) async fn ten_million(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let full = database.fresh().await?;
    let filled = Instant::now();
    fill(bench, database, &full).await?;
    database.settle().await?;
    eprintln!("bench: {} reservations in {} s", thousands(1e7), filled.elapsed().as_secs());
    let (mut empty_rates, mut full_rates) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        empty_rates.push(hot(bench, database, LANES, 256, Duration::ZERO).await?.requests_per_second);
        let settings = [("BESPEAK_DATABASE_URL", database.url(&full, None)?)];
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = Server::bespeak(&bench.binary, TempDir::new()?, &settings).await?;
        let target = server.target()?;
        define(&target, "hot", 9_000_000_000).await?;
        let summary = load(bench, &target, 256, hold_request("hot".into())).await?;
        only(&summary, "200")?;
        full_rates.push(summary.requests_per_second);
    }
    let ratio = median(full_rates.iter().zip(&empty_rates).map(|(full, empty)| full / empty).collect());
    database.drop(&full).await?;
    Ok(Section {
        title: "MySQL: ten million reservations",
        what: "Holds on one hot resource, 256 connections, in turn on an empty database and on one with ten million \
               committed reservations of a thousand other resources, once what filling it left to be written was written."
            .to_owned(),
        header: vec!["empty, holds/s", "ten million, holds/s", "ratio, pair by pair"],
        rows: vec![vec![thousands(median(empty_rates)), thousands(median(full_rates)), format!("{ratio:.2}")]],
        verdict: verdict(ratio >= 0.85, "within 15 %"),
        chart: None,
    })
}

/// Committed reservations, a million a statement, written by the database itself: through the API it would take an hour.
async fn fill(bench: &Bench, database: &Database, name: &str) -> Result<(), Error> {
    // Makes the tables; it answers when they are there.
    let server = LANES.start(bench, &database.url(name, None)?).await?;
    define(&server.target()?, "hot", 9_000_000_000).await?;
    drop(server);
    let numbers = format!(
        "USE {name}; CREATE TABLE digits (n INT PRIMARY KEY); INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
        CREATE TABLE numbers (n INT PRIMARY KEY);
        INSERT INTO numbers SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 100000 * f.n
            FROM digits a, digits b, digits c, digits d, digits e, digits f;
        INSERT INTO resources SELECT CONCAT('old-', n), 1000000000, 999990000, 10001, 'NONE', 1, 1
            FROM numbers WHERE n < 1000"
    );
    database.run(numbers).await?;
    for million in 0..MANY / 1_000_000 {
        let rows = format!(
            "USE {name}; INSERT INTO reservations (token, item_no, resource_id, quantity, status, version, created_at,
                expires_at, updated_at, idempotency_key, fingerprint)
            SELECT UNHEX(CONCAT('018F', LPAD(HEX(n + {million} * 1000000), 12, '0'), '7000800000000000')), 0,
                CONCAT('old-', n % 1000), 1, 'COMMITTED', 2, n, n, n, MD5(n + {million} * 1000000), UNHEX(MD5(n))
            FROM numbers ORDER BY n"
        );
        database.run(rows).await?;
    }
    database
        .run(format!("USE {name}; DROP TABLE digits; DROP TABLE numbers; ANALYZE TABLE reservations"))
        .await
}
