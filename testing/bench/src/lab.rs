//! The accuracy of the lab's load generator: it must keep its rate, send on schedule, and measure the same times as k6.

use std::{path::Path, time::Duration};

use bespeak_lab::load::{OpenLoop, OpenRun, open_loop, thousands};
use bespeak_services::Tool;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Error,
    bench::Bench,
    client::{define, hold_request, only},
    mysql::Database,
    report::{Section, median, verdict},
    server::Server,
};

const RATE: u32 = 20_000;

/// Measures the generator with a route that only echoes.
pub(crate) async fn generator(bench: &Bench) -> Result<Section, Error> {
    let (mut rates, mut lateness, mut p99s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let server = Server::echo().await?;
        let run = at_rate(bench, &server, RATE, 256).await?;
        let summary = run.summary();
        only(&summary, "200")?;
        rates.push(summary.requests_per_second);
        lateness.push(run.lateness.quantile_ms(0.99));
        p99s.push(summary.p99_ms);
    }
    let (rate, late) = (median(rates), median(lateness));
    Ok(Section {
        title: "The lab's load generator",
        what: format!(
            "Open loop at {}/s with 256 connections against a route that only echoes, on the same cores. Lateness \
             is the time between the scheduled time of a request and the time when it was handed to a connection.",
            thousands(f64::from(RATE))
        ),
        header: vec!["responses/s", "lateness p99, ms", "response time p99, ms"],
        rows: vec![vec![thousands(rate), format!("{late:.2}"), format!("{:.1}", median(p99s))]],
        verdict: verdict(
            rate >= 0.99 * f64::from(RATE) && late < 5.0,
            "20,000/s sustained, lateness under 5 ms at p99",
        ),
        chart: None,
    })
}

/// Measures the generator and k6 in turn, on the same kind of server.
pub(crate) async fn against_k6(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut agree = true;
    for rate in [100, 500] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..bench.rounds {
            // Each goes first in every second round.
            for with_k6 in [round % 2 == 1, round % 2 == 0] {
                let name = database.fresh().await?;
                let url = database.url(&name, None)?;
                let server = Server::bespeak(
                    &bench.binary,
                    TempDir::new()?,
                    &[("BESPEAK_DATABASE_URL", url.as_str())],
                )
                .await?;
                if with_k6 {
                    theirs.push(k6_p50(bench, &server, rate).await?);
                } else {
                    define(&server.target()?, "hot", 9_000_000_000).await?;
                    let run = at_rate(bench, &server, rate, 256).await?;
                    only(&run.summary(), "200")?;
                    ours.push(run.summary().p50_ms);
                }
                drop(server);
                database.drop(&name).await?;
            }
        }
        let (ours, theirs) = (median(ours), median(theirs));
        agree &= (ours / theirs - 1.0).abs() <= 0.25;
        rows.push(vec![
            format!("{rate}/s"),
            format!("{ours:.2}"),
            format!("{theirs:.2}"),
            format!("{:+.0} %", (ours / theirs - 1.0) * 100.0),
        ]);
    }
    Ok(Section {
        title: "The lab's load generator and k6",
        what: "Holds on one vehicle in MySQL with lanes: p50 measured by the lab's generator and by k6 \
               (tests/load/arrivals.js), in turn. The generator counts from the scheduled time of a request, k6 \
               from the time when it sent the request."
            .to_owned(),
        header: vec!["arrivals", "lab p50, ms", "k6 p50, ms", "difference"],
        rows,
        verdict: verdict(agree, "p50 within 25 % of k6's at 100 and 500 arrivals/s"),
        chart: None,
    })
}

/// Runs an open loop of holds on one resource.
async fn at_rate(
    bench: &Bench,
    server: &Server,
    per_second: u32,
    connections: usize,
) -> Result<OpenRun, Error> {
    let load = OpenLoop {
        per_second,
        connections,
        warm_up: bench.warm_up,
        duration: bench.duration,
        late_max: Duration::from_secs(10),
    };
    Ok(open_loop(&server.target()?, &load, hold_request("hot".into())).await?)
}

/// Runs k6 and returns the median response time in ms.
async fn k6_p50(bench: &Bench, server: &Server, rate: u32) -> Result<f64, Error> {
    let folder = TempDir::new()?;
    let summary = folder.path().join("summary.json");
    let mut command = Tool::K6.command()?;
    command
        .args(["run", "--quiet", "--no-usage-report", "--address", "127.0.0.1:0", "--summary-export"])
        .arg(&summary)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/load/arrivals.js"))
        .env("BASE_URL", &server.url)
        .env("RATE", rate.to_string())
        .env("DURATION", format!("{}s", bench.duration.as_secs()));
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(format!("k6: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let summary: Value = serde_json::from_slice(&std::fs::read(&summary)?)?;
    let p50 = summary["metrics"]["http_req_duration{call:reserve}"]["med"].as_f64();
    p50.ok_or_else(|| "the summary of k6 contains no median".into())
}
