//! Holds on one hot resource of a database with ten million reservations, against an empty one.

use std::time::{Duration, Instant};

use bespeak_lab::load::thousands;
use tempfile::TempDir;

use super::{
    contender::{LANES, hot},
    database::Database,
};
use crate::{
    Error,
    bench::Bench,
    client::{define, hold_request, load, only},
    report::{Section, median, verdict},
    server::Server,
};

/// The reservations that exist before the measurement.
const RESERVATIONS: u64 = 10_000_000;

pub(crate) async fn ten_million(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let full = database.fresh().await?;
    let started = Instant::now();
    fill(bench, database, &full).await?;
    database.wait_for_flush().await?;
    eprintln!("bench: wrote {} reservations in {} s", thousands(1e7), started.elapsed().as_secs());
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
        what: "Holds on one hot resource, 256 connections, in turn on an empty database and on one with ten \
               million committed reservations of a thousand other resources, after the database had written its \
               dirty pages to disk."
            .to_owned(),
        header: vec!["empty, holds/s", "ten million, holds/s", "ratio, pair by pair"],
        rows: vec![vec![thousands(median(empty_rates)), thousands(median(full_rates)), format!("{ratio:.2}")]],
        verdict: verdict(ratio >= 0.85, "within 15 %"),
        chart: None,
    })
}

/// Writes committed reservations with SQL, a million per statement. Through the API it would take an hour.
async fn fill(bench: &Bench, database: &Database, name: &str) -> Result<(), Error> {
    // The server creates the tables before it accepts connections.
    let server = LANES.start(bench, &database.url(name, None)?).await?;
    define(&server.target()?, "hot", 9_000_000_000).await?;
    drop(server);
    let numbers = format!(
        "USE {name}; CREATE TABLE digits (n INT PRIMARY KEY); INSERT INTO digits VALUES \
         (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
        CREATE TABLE numbers (n INT PRIMARY KEY);
        INSERT INTO numbers SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 100000 * f.n
            FROM digits a, digits b, digits c, digits d, digits e, digits f;
        INSERT INTO resources SELECT CONCAT('old-', n), 1000000000, 999990000, 10001, 'NONE', 1, 1
            FROM numbers WHERE n < 1000"
    );
    database.run(numbers).await?;
    for million in 0..RESERVATIONS / 1_000_000 {
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
