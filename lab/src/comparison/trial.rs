//! One run: a strategy under a scenario, on a new server process and a new database, with an audit of the books
//! afterwards.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::{
    app::{Access, open_store},
    config::{Config, Values},
    dispatch::Strategy,
    store::Audit,
};
use bespeak_lab::load::{Answer, Connection, OpenRun, TargetError, open_loop};
use hyper::{Method, StatusCode, body::Bytes};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    scenario::{Attempt, Scenario},
    scratch::ScratchDatabase,
    servers::Servers,
    subject::Subject,
};
use bespeak_cli::Failure;

/// The quantiles of the response times that the chart of their distribution shows.
const SHARES: [f64; 26] = [
    0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0,
];

/// How long the definition of a vehicle may take, retries included.
const DEFINE_WITHIN: Duration = Duration::from_secs(30);

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) strategy: &'static str,
    pub(super) scenario: &'static str,
    /// Units that were sold twice, counted in the tables.
    pub(super) duplicates: u64,
    /// Other findings of the audit: about events, reservations of several items, and winners.
    pub(super) findings: u64,
    /// Responses with status 200.
    pub(super) accepted: u64,
    /// Responses with status 409: sold out.
    pub(super) refused: u64,
    /// Requests with another status, without a response, or not sent in time.
    pub(super) failed: u64,
    /// The failed requests by status or by error.
    pub(super) failures: BTreeMap<String, u64>,
    /// The share of failed requests, 0 to 1.
    pub(super) failure_rate: f64,
    /// Accepted and refused, per second.
    pub(super) requests_per_second: f64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Waits for a row lock or for a distributed lock, per attempt; at most 1.
    pub(super) waited_share: f64,
    /// 99 of 100 requests were handed to a connection within this time after they were due.
    pub(super) lateness_p99_ms: f64,
    /// Quantiles (0 to 1) and their response times in milliseconds.
    #[serde(skip)]
    pub(super) distribution: Vec<(f64, f64)>,
}

/// Creates a database, does some work on it, and drops it whatever becomes of the work. `None` if the lab was
/// stopped.
pub(super) async fn on_a_database<T>(
    servers: &Servers,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(&ScratchDatabase) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let database = servers.database.create().await?;
    let done = stop.run_until_cancelled(work(&database)).await;
    let dropped = database.drop().await;
    let done = done.transpose()?;
    dropped?;
    Ok(done)
}

/// Runs a strategy under a scenario. `None` if the lab was stopped.
pub(super) async fn run(
    servers: &Servers,
    stop: &CancellationToken,
    strategy: Strategy,
    scenario: &Scenario,
) -> Result<Option<Figures>, Failure> {
    on_a_database(servers, stop, async |database| {
        let measured = measure(servers, database, strategy, scenario);
        tokio::time::timeout(patience(scenario), measured).await.unwrap_or_else(|_late| {
            let scenario = scenario.name;
            Err(Failure::new(format!(
                "{strategy} under {scenario} is stuck: neither responses nor failures arrive any more"
            )))
        })
    })
    .await
}

async fn measure(
    servers: &Servers,
    database: &ScratchDatabase,
    strategy: Strategy,
    scenario: &Scenario,
) -> Result<Figures, Failure> {
    let subject = Subject::start(strategy, &servers.settings(database, strategy)).await?;
    let vehicles = define(&subject, scenario.vehicles, scenario.units).await?;
    let row_waits = database.server().row_lock_waits().await?;
    let lock_waits = subject.waits_for_distributed_locks().await?;
    let run = attempts(&subject, scenario, vehicles).await?;
    let row_waits = database.server().row_lock_waits().await?.saturating_sub(row_waits);
    let lock_waits = subject.waits_for_distributed_locks().await? - lock_waits;
    subject.stop().await;
    let duplicates = database.duplicates().await?;
    let audit = audit(database).await?;
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let waits = row_waits as f64 + lock_waits;
    Ok(figures(strategy, scenario, &run, waits, duplicates, &audit))
}

fn figures(
    strategy: Strategy,
    scenario: &Scenario,
    run: &OpenRun,
    waits: f64,
    duplicates: u64,
    audit: &Audit,
) -> Figures {
    let summary = run.summary();
    let count = |name| summary.counts.get(name).copied().unwrap_or(0);
    let (accepted, refused) = (count("200"), count("409"));
    let failures: BTreeMap<String, u64> =
        summary.counts.clone().into_iter().filter(|(name, _)| name != "200" && name != "409").collect();
    let failed: u64 = failures.values().sum();
    let share = |part: f64| {
        if accepted + refused + failed == 0 { 0.0 } else { part / whole(accepted + refused + failed) }
    };
    Figures {
        strategy: strategy.as_str(),
        scenario: scenario.name,
        duplicates,
        // Findings about I1 are units sold twice, which `duplicates` counts.
        findings: audit.findings.iter().filter(|finding| finding.invariant != "I1").count() as u64,
        accepted,
        refused,
        failed,
        failures,
        failure_rate: share(whole(failed)),
        requests_per_second: whole(accepted + refused) / run.elapsed.as_secs_f64().max(1e-9),
        mean_ms: summary.mean_ms,
        p50_ms: summary.p50_ms,
        p95_ms: summary.p95_ms,
        p99_ms: summary.p99_ms,
        max_ms: summary.max_ms,
        waited_share: share(waits).min(1.0),
        lateness_p99_ms: run.lateness.quantile_ms(0.99),
        distribution: SHARES.iter().map(|share| (*share, run.answers.quantile_ms(*share))).collect(),
    }
}

/// Defines vehicles with a number of units each, and returns their ids.
pub(super) async fn define(subject: &Subject, count: u64, units: u64) -> Result<Arc<[String]>, Failure> {
    let mut connection = subject.connect().await?;
    let mut vehicles = Vec::new();
    for number in 0..count {
        let id = format!("vehicle-{number}");
        let body = Bytes::from(json!({"resourceId": id, "totalStock": units}).to_string());
        let until = Instant::now() + DEFINE_WITHIN;
        loop {
            let body = body.clone();
            let answer = connection.send(Method::POST, "/api/v1/resources", &[], body).await;
            let answer = answer.map_err(|error| Failure::caused("a vehicle cannot be defined", &error))?;
            if answer.status.is_success() {
                break;
            }
            // 503 is temporary: retry.
            if answer.status != StatusCode::SERVICE_UNAVAILABLE || Instant::now() > until {
                let why = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(Failure::new(format!("a vehicle cannot be defined: {} {why}", answer.status)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        vehicles.push(id);
    }
    Ok(vehicles.into())
}

async fn attempts(
    subject: &Subject,
    scenario: &Scenario,
    vehicles: Arc<[String]>,
) -> Result<OpenRun, Failure> {
    let attempt = scenario.attempt;
    let step = move |connection: Connection, _: usize, number: u64| {
        // A pseudo-random vehicle, the same for the same request number in every run.
        let vehicle = fastrand::Rng::with_seed(number).usize(..vehicles.len());
        let body = reserve(&vehicles[vehicle]);
        async move {
            let (connection, held) = hold(connection, body).await;
            match held {
                Ok(answer) if attempt == Attempt::HoldThenEnd && answer.status == 200 => {
                    let verb = if number.is_multiple_of(3) { "release" } else { "commit" };
                    let token =
                        serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["token"].take();
                    connection
                        .post(&format!("/api/v1/{verb}"), &[], json!({"token": token}).to_string())
                        .await
                }
                held => (connection, held),
            }
        }
    };
    open_loop(&subject.target, &scenario.load, step)
        .await
        .map_err(|error| Failure::caused("the server under test cannot be reached", &error))
}

/// The body of a request that holds one unit for longer than any run.
pub(super) fn reserve(vehicle: &str) -> Bytes {
    json!({"resourceId": vehicle, "quantity": 1, "ttlSeconds": 3600}).to_string().into()
}

/// Sends a reservation with a new idempotency key.
pub(super) async fn hold(connection: Connection, body: Bytes) -> (Connection, Result<Answer, TargetError>) {
    let key = format!("{:032x}", fastrand::u128(..));
    connection.post("/api/v1/reserve", &[("idempotency-key", &key)], body).await
}

/// Audits the books, as `bespeak verify` does.
async fn audit(database: &ScratchDatabase) -> Result<Audit, Failure> {
    let url = database.url();
    let values =
        Values::collect(|name| (name == "BESPEAK_DATABASE_URL").then(|| url.clone()), |_| None::<String>);
    let config = Config::parse(&values)?;
    let store = open_store(&config, Access::Audit).await?;
    let audit = store.audit().await;
    store.close().await;
    Ok(audit?)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn whole(count: u64) -> f64 {
    count as f64
}

/// How long a run may take before it counts as stuck. Late requests and missing responses have shorter limits within
/// it.
fn patience(scenario: &Scenario) -> Duration {
    scenario.takes() + scenario.load.late_max + Duration::from_secs(120)
}
