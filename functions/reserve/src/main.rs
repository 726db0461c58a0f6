//! The Lambda function `reserve`: the HTTP API behind API Gateway (REST and HTTP APIs), a Function URL or a load
//! balancer.
//!
//! If the environment serves one request at a time, each request has a transaction of its own. If it serves many,
//! they share lanes as in a server. One connection opens at the start, to check the schema, and the others when they
//! are needed. Nothing runs between invocations, and an answer is sent only after its transaction ended, so a frozen
//! environment holds no lock. Next: `gateway.rs`.

mod gateway;

use std::{env, sync::Arc, time::Duration};

use bespeak::{
    app::{Access, App, open_store, refuse_newer_schema, start_telemetry},
    config::{Config, Values},
    telemetry,
};
use lambda_http::{Error, Request, run_concurrent, service_fn};

/// Defaults for one request at a time: its update guards its transaction, and one connection suffices.
const SEQUENTIAL_DEFAULTS: [(&str, &str); 5] = [
    ("BESPEAK_STRATEGY", "conditional"),
    ("BESPEAK_WRITE_CONNECTIONS", "1"),
    ("BESPEAK_READ_CONNECTIONS", "1"),
    ("BESPEAK_LOG_FORMAT", "json"),
    // A function does not listen, and its gateway has a name of its own.
    ("BESPEAK_ALLOWED_HOSTS", "any"),
];
/// Defaults for concurrent requests: they share the transactions of lanes, each of which uses one connection.
const CONCURRENT_DEFAULTS: [(&str, &str); 4] = [
    ("BESPEAK_WRITE_CONNECTIONS", "8"),
    ("BESPEAK_READ_CONNECTIONS", "2"),
    ("BESPEAK_LOG_FORMAT", "json"),
    ("BESPEAK_ALLOWED_HOSTS", "any"),
];

/// How long an answer may wait until the spans of its request are exported.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let defaults = if concurrency() > 1 { &CONCURRENT_DEFAULTS[..] } else { &SEQUENTIAL_DEFAULTS[..] };
    let config = Config::parse(&Values::from_environment_or(defaults))?;
    start_telemetry(&config)?;
    telemetry::metrics()?;
    let store = open_store(&config, Access::Serve).await?;
    refuse_newer_schema(&*store).await?;
    let app = Arc::new(App::start(store, &config));
    let router = bespeak_http::router(app, config.http);
    // An environment is frozen when it has no request in flight, and spans that are not exported are frozen with it.
    let freezes_after_answer = concurrency() == 1;
    run_concurrent(service_fn(move |event: Request| {
        let router = router.clone();
        async move {
            let answer = gateway::answer(router, event).await;
            if freezes_after_answer {
                telemetry::flush_spans(FLUSH_WITHIN).await;
            }
            answer
        }
    }))
    .await
}

/// How many requests this environment serves concurrently: one, except on Lambda Managed Instances.
fn concurrency() -> usize {
    env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
