//! The Lambda function `reserve`: the HTTP API behind API Gateway (REST and HTTP APIs), a Function URL or a load balancer.
//!
//! Where the environment serves one request at a time, each has a transaction of its own; where it serves many, they share
//! lanes as in a server. Connections are opened when they are first needed. Nothing of a request runs between invocations,
//! and an answer leaves only when its transaction is over: a frozen environment holds no lock. Next: `gateway.rs`.

mod gateway;

use std::{env, sync::Arc, time::Duration};

use bespeak::{
    app::{Access, App, open_store},
    config::{Config, Values},
    telemetry,
};
use lambda_http::{Error, Request, run_concurrent, service_fn};

/// One request at a time: each has its own transaction, guarded by its update, and a connection is enough.
const ONE_BY_ONE: [(&str, &str); 4] = [
    ("BESPEAK_STRATEGY", "conditional"),
    ("BESPEAK_WRITE_CONNECTIONS", "1"),
    ("BESPEAK_READ_CONNECTIONS", "1"),
    ("BESPEAK_LOG_FORMAT", "json"),
];
/// Many at a time: they share the transactions of lanes, each of which uses one connection.
const MANY_AT_ONCE: [(&str, &str); 3] =
    [("BESPEAK_WRITE_CONNECTIONS", "8"), ("BESPEAK_READ_CONNECTIONS", "2"), ("BESPEAK_LOG_FORMAT", "json")];

/// How long an answer may wait for the spans of its request.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let defaults = if at_once() > 1 { &MANY_AT_ONCE[..] } else { &ONE_BY_ONE[..] };
    let config = Config::parse(&Values::from_environment_or(defaults))?;
    telemetry::start_logs(&config.log, config.log_format)?;
    telemetry::start_spans(config.otlp.as_ref())?;
    telemetry::metrics()?;
    let store = open_store(&config, Access::Serve).await?;
    let app = Arc::new(App::start(store, &config));
    let router = bespeak_http::router(app, config.http);
    // An environment that has answered its only request is frozen, and spans with it.
    let is_frozen = at_once() == 1;
    run_concurrent(service_fn(move |event: Request| {
        let router = router.clone();
        async move {
            let answer = gateway::answer(router, event).await;
            if is_frozen {
                telemetry::flush_spans(FLUSH_WITHIN).await;
            }
            answer
        }
    }))
    .await
}

/// How many requests an environment serves at the same time: one, but on Lambda Managed Instances.
fn at_once() -> usize {
    env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
