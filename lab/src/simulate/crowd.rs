//! The buyers: each arrives at a planned time, whatever the responses to the others, and tries to hold units.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak_lab::load::{Answer, Connection, Recorder, Target, TargetError};
use hyper::{Method, body::Bytes};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use super::books::Winner;
use bespeak_cli::{Failure, Output};

use crate::args::SimulateArgs;

/// How many connections are opened at the same time.
const CONNECTING: usize = 128;
/// The time between the last connection and the first arrival.
const RUN_UP: Duration = Duration::from_millis(100);

/// A buyer before the sale.
struct Buyer {
    connection: Connection,
    arrives: Duration,
    commits: bool,
    key: String,
}

/// The response to one buyer, for the charts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// The time when the request was due, from the start.
    pub(crate) arrived: Duration,
    /// The time from then to the response.
    pub(crate) took: Duration,
    pub(crate) accepted: bool,
}

/// The results of all buyers.
pub(super) struct Ran {
    pub(super) elapsed: Duration,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) winners: Vec<Winner>,
    pub(super) answers: Vec<Answered>,
    pub(super) reserve: Recorder,
    pub(super) commit: Option<Recorder>,
}

/// The buyers of one sale.
pub(super) struct Crowd {
    plan: Vec<(Duration, bool)>,
    body: Bytes,
    key_prefix: String,
    timeout: Duration,
}

/// The result of one buyer.
struct Bought {
    arrives: Duration,
    reserve: Result<(u16, Duration), String>,
    won: Option<Winner>,
    refused: bool,
    commit: Option<Result<(u16, Duration), String>>,
    trouble: Option<String>,
}

impl Crowd {
    /// Plans the arrivals: uniformly distributed over the ramp, and determined by the seed.
    pub(super) fn new(args: &SimulateArgs, resource: &str, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plan: Vec<_> = (0..args.users)
            .map(|_| (args.ramp.mul_f64(random.f64()), random.f64() < args.commit_share))
            .collect();
        plan.sort_by_key(|(arrives, _)| *arrives);
        let body = json!({"resourceId": resource, "quantity": args.quantity, "ttlSeconds": args.ttl});
        Self {
            plan,
            body: body.to_string().into(),
            // A second sale with the same seed must not replay the reservations of the first.
            key_prefix: format!("simulate-{:016x}", fastrand::u64(..)),
            timeout: args.timeout,
        }
    }

    /// Connects all buyers, then lets them arrive.
    pub(super) async fn run(&self, output: Output, target: &Target) -> Result<Ran, Failure> {
        let buyers = self.connect(output, target).await?;
        let progress = bar(output, "selling", buyers.len());
        let mut tasks = JoinSet::new();
        let start = Instant::now() + RUN_UP;
        for buyer in buyers {
            let (body, timeout) = (self.body.clone(), self.timeout);
            tasks.spawn(async move {
                tokio::time::sleep_until((start + buyer.arrives).into()).await;
                buy(buyer, start, body, timeout).await
            });
        }
        let mut ran = Ran::new();
        while let Some(bought) = tasks.join_next().await {
            progress.inc(1);
            match bought {
                Ok(bought) => ran.add(bought),
                Err(_panicked) => ran.error("the load generator panicked"),
            }
        }
        ran.elapsed = start.elapsed();
        progress.finish_and_clear();
        ran.answers.sort_by_key(|answer| answer.arrived);
        Ok(ran)
    }

    async fn connect(&self, output: Output, target: &Target) -> Result<Vec<Buyer>, Failure> {
        let progress = bar(output, "connecting", self.plan.len());
        let places = Arc::new(Semaphore::new(CONNECTING));
        let mut tasks = JoinSet::new();
        for (number, (arrives, commits)) in self.plan.iter().copied().enumerate() {
            let (target, places) = (target.clone(), places.clone());
            let key = format!("{}-{number}", self.key_prefix);
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                Ok::<_, TargetError>(Buyer { connection: target.connect().await?, arrives, commits, key })
            });
        }
        let mut buyers = Vec::with_capacity(self.plan.len());
        while let Some(buyer) = tasks.join_next().await {
            let buyer = buyer.map_err(|error| Failure::caused("the load generator failed", &error))?;
            buyers.push(buyer.map_err(|error| Failure::caused("a buyer cannot connect", &error))?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(buyers)
    }
}

/// Lets one buyer reserve, and commit if planned. Response times count from the time when a request was due.
async fn buy(mut buyer: Buyer, start: Instant, body: Bytes, timeout: Duration) -> Bought {
    let due = start + buyer.arrives;
    let mut bought = Bought {
        arrives: buyer.arrives,
        reserve: Err(String::new()),
        won: None,
        refused: false,
        commit: None,
        trouble: None,
    };
    let headers = [("idempotency-key", buyer.key.as_str())];
    let answer = ask(&mut buyer.connection, "/api/v1/reserve", &headers, body, timeout).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(what) => {
            bought.reserve = Err(what);
            return bought;
        }
    };
    bought.reserve = Ok((answer.status.as_u16(), due.elapsed()));
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status.as_u16(), json["token"].as_str(), json["type"].as_str()) {
        (200, Some(token), _) => {
            bought.won = Some(Winner { token: token.to_owned(), status: "HELD".to_owned() });
        }
        (409, _, Some("out-of-stock")) => bought.refused = true,
        (status, _, slug) => {
            bought.trouble = Some(format!("reserve: {status} {}", slug.unwrap_or("unknown")));
        }
    }
    if let (Some(winner), true) = (&mut bought.won, buyer.commits) {
        let asked = Instant::now();
        let body = json!({"token": winner.token}).to_string().into();
        bought.commit = Some(match ask(&mut buyer.connection, "/api/v1/commit", &[], body, timeout).await {
            Ok(answer) => {
                if answer.status.is_success() {
                    "COMMITTED".clone_into(&mut winner.status);
                } else {
                    bought.trouble = Some(format!("commit: {}", answer.status.as_u16()));
                }
                Ok((answer.status.as_u16(), asked.elapsed()))
            }
            Err(what) => Err(what),
        });
    }
    bought
}

async fn ask(
    connection: &mut Connection,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
    timeout: Duration,
) -> Result<Answer, String> {
    match tokio::time::timeout(timeout, connection.send(Method::POST, path, headers, body)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err(format!("no response within {} s", timeout.as_secs())),
    }
}

impl Ran {
    fn new() -> Self {
        Self {
            elapsed: Duration::ZERO,
            accepted: 0,
            refused: 0,
            errors: BTreeMap::new(),
            winners: Vec::new(),
            answers: Vec::new(),
            reserve: Recorder::new(),
            commit: None,
        }
    }

    fn error(&mut self, what: &str) {
        *self.errors.entry(what.to_owned()).or_default() += 1;
    }

    fn add(&mut self, bought: Bought) {
        match bought.reserve {
            Ok((status, took)) => {
                self.reserve.answered(status, took);
                self.answers.push(Answered { arrived: bought.arrives, took, accepted: bought.won.is_some() });
            }
            Err(what) => {
                self.reserve.failed(&what);
                self.error(&format!("reserve: {what}"));
            }
        }
        if let Some(commit) = bought.commit {
            let recorder = self.commit.get_or_insert_with(Recorder::new);
            match commit {
                Ok((status, took)) => recorder.answered(status, took),
                Err(what) => {
                    recorder.failed(&what);
                    self.error(&format!("commit: {what}"));
                }
            }
        }
        if let Some(trouble) = bought.trouble {
            self.error(&trouble);
        }
        self.refused += u64::from(bought.refused);
        if let Some(winner) = bought.won {
            self.accepted += 1;
            self.winners.push(winner);
        }
    }
}

fn bar(output: Output, what: &'static str, length: usize) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg:>10} {bar:40} {human_pos}/{human_len} buyers") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
