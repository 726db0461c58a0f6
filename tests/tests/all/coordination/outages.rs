//! Redis is emptied, killed, frozen or unreachable under load: every request is answered, nothing is oversold, and
//! released units are sold again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bespeak_services::{Redis, Switch};
use bespeak_tests::{Books, Client, Server, ask, until_within};
use serde_json::{Value, json};

use super::{PATIENCE, joined, redis, reserve_on, token_of};

/// How long a refusal may lag behind a release by another process (I6).
const REFUSAL_LAG_MAX: Duration = Duration::from_millis(50);

const UNITS: u64 = 4;
const CLIENTS: u32 = 12;

/// Clients of two servers that hold and release units, with many more clients than units.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn on(servers: &[Server; 2]) -> Self {
        let load = Self { stop: Arc::default(), answered: Arc::default(), tasks: Vec::new() };
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            let mut connection = servers[client as usize % 2].connect().await;
            let (stop, answered) = (load.stop.clone(), load.answered.clone());
            tasks.push(tokio::spawn(async move {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let holder = format!("holder-{client}");
                    let body =
                        json!({"resourceId": "hot", "quantity": 1, "ttlSeconds": 600, "holder": holder});
                    let answer = reserve_on(&mut connection, &format!("{client}-{turn}"), &body).await;
                    if answer.status == 200 {
                        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                        let token = json!({"token": token_of(&json)}).to_string();
                        let sent =
                            connection.send(http::Method::POST, "/api/v1/release", &[], token.into()).await;
                        assert_eq!(sent.expect("answered").status, 200);
                    } else {
                        assert_eq!(answer.status, 409, "{answer:?}");
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Self { tasks, ..load }
    }

    /// Waits for 200 more answers.
    async fn goes_on(&self, what: &str) {
        let before = self.answered.load(Ordering::Relaxed);
        until_within(PATIENCE, what, async || self.answered.load(Ordering::Relaxed) > before + 200).await;
    }

    async fn ended(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("no stuck request").expect("no panic");
        }
    }
}

/// Runs a fault under load with the default timeout and a rate limit that no client reaches.
async fn survives(fault: impl AsyncFn(&mut Redis, &Switch, &Load, &[Server; 2])) {
    let (books, (mut redis, switch)) = (Books::mysql().await, redis().await);
    let url = redis.url();
    let settings = [("BESPEAK_REDIS_URLS", url.as_str()), ("BESPEAK_RATE_LIMIT_PER_HOLDER", "1000000/1s")];
    let servers = [Server::start(&books, &settings).await, Server::start(&books, &settings).await];
    servers[0].stock("hot", UNITS).await;
    let load = Load::on(&servers).await;
    load.goes_on("it begins").await;
    fault(&mut redis, &switch, &load, &servers).await;
    load.goes_on("it goes on").await;
    load.ended().await;
    books.assert_consistent().await;
    // After the allowed lag, no available unit is refused. The test waits for the time itself, because that is the
    // promise.
    tokio::time::sleep(REFUSAL_LAG_MAX).await;
    for (n, server) in servers.iter().cycle().take(4).enumerate() {
        server.hold(&format!("last-{n}"), "hot").await;
    }
    for server in &servers {
        joined(server).await;
        assert!(server.logged("ERROR").is_empty(), "{:?}", server.logged("ERROR"));
    }
    books.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_oversells_nothing() {
    survives(async |redis, _, load, _| {
        for _ in 0..5 {
            assert_eq!(ask(redis, &["FLUSHALL"]).await, "+OK");
            // The loaded scripts are removed as well.
            ask(redis, &["SCRIPT", "FLUSH"]).await;
            load.goes_on("emptied").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_redis_oversells_nothing() {
    survives(async |redis, _, load, _| {
        for _ in 0..2 {
            redis.kill().await.expect("killed");
            load.goes_on("it is gone").await;
            redis.restart_empty().await.expect("started");
            load.goes_on("it is back").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_redis_oversells_nothing() {
    survives(async |_, switch, load, _| {
        for _ in 0..2 {
            switch.turn_off();
            load.goes_on("it cannot be reached").await;
            switch.turn_on().expect("the port is free");
            load.goes_on("it can be reached again").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_past_the_timeout_oversells_nothing() {
    survives(async |_, switch, load, _| {
        switch.set_latency(Duration::from_millis(300));
        load.goes_on("every answer is late").await;
        switch.set_latency(Duration::ZERO);
    })
    .await;
}

/// Redis answers within the timeout but slowly: the breaker opens, so that requests do not wait for it each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_opens_the_breaker() {
    survives(async |_, switch, load, servers| {
        switch.set_latency(Duration::from_millis(15));
        for server in servers {
            until_within(PATIENCE, "the breaker is open", async || breaker_is_open(server).await).await;
        }
        load.goes_on("it is slow").await;
        switch.set_latency(Duration::ZERO);
    })
    .await;
}

/// The server finds a returned Redis by probing, not by a customer's request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_found_again_without_a_request() {
    let (books, (redis, switch)) = (Books::mysql().await, redis().await);
    switch.turn_off();
    let server = Server::start(&books, &[("BESPEAK_REDIS_URLS", &redis.url())]).await;
    let is_missed = |line: &String| line.contains("Redis does not answer");
    until_within(PATIENCE, "the outage is logged", async || server.logged("WARN").iter().any(is_missed))
        .await;
    assert!(breaker_is_open(&server).await);
    switch.turn_on().expect("the port is free");
    until_within(PATIENCE, "the breaker is closed", async || !breaker_is_open(&server).await).await;
}

async fn breaker_is_open(server: &Server) -> bool {
    server.metric("bespeak_redis_open_breakers").await > 0.5
}

/// A frozen Redis accepts connections and never answers. Only a few calls time out before the breaker opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_opens_the_breaker() {
    survives(async |redis, _, load, servers| {
        redis.freeze().await.expect("frozen");
        for server in servers {
            until_within(PATIENCE, "the breaker is open", async || breaker_is_open(server).await).await;
        }
        let (late, skipped) = (calls(servers, "timed_out").await, calls(servers, "skipped").await);
        assert!(late > 0.0, "some calls must have timed out");
        // Long enough for at least one probe.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            load.goes_on("it does not answer").await;
        }
        // Only calls that were in flight when the breaker opened have timed out.
        assert!(calls(servers, "timed_out").await <= late + f64::from(CLIENTS));
        // Of the 200 that were answered since, as many had been asked before.
        assert!(calls(servers, "skipped").await >= skipped + 200.0 - f64::from(CLIENTS));
        redis.thaw().await.expect("thawed");
    })
    .await;
}

/// How many calls of the rate limit had this result, on both servers together.
async fn calls(servers: &[Server; 2], result: &str) -> f64 {
    let series = format!("bespeak_redis_calls_total{{call=\"limit\",result=\"{result}\"}} ");
    let mut all = 0.0;
    for server in servers {
        let text = server.text("/metrics").await;
        all +=
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok()).unwrap_or_default();
    }
    all
}
