//! One hot resource: one environment with 64 requests at a time against 64 environments with one each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak_lab::load::thousands;
use bespeak_services::{Function, Proxy};

use super::invoke::{define, expect_status, hold, migrated_database, program};
use crate::{
    Error,
    bench::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// The number of concurrent requests in both cases.
const AT_ONCE: usize = 64;

pub(crate) async fn concurrency(bench: &Bench, mysql: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut ratios = Vec::new();
    for latency in [Duration::ZERO, Duration::from_millis(1)] {
        let (mut many, mut single) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            // In turn, so that other load on the machine affects both of them.
            single.push(holds_per_second(bench, mysql, latency, AT_ONCE, "1").await?);
            many.push(holds_per_second(bench, mysql, latency, 1, "64").await?);
        }
        let (many, single) = (median(many), median(single));
        ratios.push(many / single);
        rows.push(vec![
            format!("{} ms", latency.as_millis()),
            thousands(single),
            thousands(many),
            format!("{:.2} x", many / single),
        ]);
    }
    let reached =
        ratios.first().is_some_and(|ratio| *ratio >= 2.5) && ratios.get(1).is_some_and(|ratio| *ratio >= 5.0);
    Ok(Section {
        title: "Functions: many requests per environment",
        what: format!(
            "Holds on one resource, {AT_ONCE} at a time, for {} s: by {AT_ONCE} environments with one request each \
             (conditional updates), and by one environment with AWS_LAMBDA_MAX_CONCURRENCY={AT_ONCE} (lanes). \
             Measured on loopback and with 1 ms added to each round trip.",
            bench.duration.as_secs()
        ),
        header: vec!["round trip", "64 environments, holds/s", "one environment, holds/s", "ratio"],
        rows,
        verdict: verdict(reached, "at least 2.5 times the holds, 5 times with 1 ms"),
        chart: None,
    })
}

/// Measures holds per second, by `environments` that each process `at_once` requests at a time.
async fn holds_per_second(
    bench: &Bench,
    mysql: &Database,
    latency: Duration,
    environments: usize,
    at_once: &str,
) -> Result<f64, Error> {
    let name = migrated_database(mysql).await?;
    let proxy = mysql.proxy()?;
    proxy.set_latency(latency);
    let at = (!latency.is_zero()).then(|| proxy.address());
    let url = mysql.url(&name, at)?;
    let settings = [("BESPEAK_DATABASE_URL", url.as_str()), ("AWS_LAMBDA_MAX_CONCURRENCY", at_once)];
    let mut functions = Vec::new();
    for _ in 0..environments {
        functions.push(Arc::new(Function::start(&program(bench, "reserve"), &settings).await?));
    }
    define(&functions[0]).await?;
    // Cold starts are not part of this measurement.
    for function in &functions {
        expect_status(function, hold(), 200).await?;
    }
    let end = Instant::now() + bench.duration;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..AT_ONCE {
        let function = functions[client % functions.len()].clone();
        clients.spawn(async move {
            let mut holds = 0_u32;
            while Instant::now() < end {
                expect_status(&function, hold(), 200).await?;
                holds += 1;
            }
            Ok::<_, Error>(holds)
        });
    }
    let started = Instant::now();
    let mut holds = 0;
    while let Some(client) = clients.join_next().await {
        holds += client??;
    }
    let rate = f64::from(holds) / started.elapsed().as_secs_f64();
    drop(functions);
    drop::<Proxy>(proxy);
    mysql.drop(&name).await?;
    Ok(rate)
}
