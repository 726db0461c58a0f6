//! The Lambda function `relay-cron`: what a server does in the background, done by a schedule.
//!
//! It ends overdue holds, publishes the outbox, delivers webhooks and forgets what is old, until its time is nearly over, and
//! leaves nothing running: a frozen environment holds no lease and no unacknowledged event. Next: `request.rs` for what it is
//! told, `tasks.rs` for what it does.

mod report;
mod request;
mod tasks;

use bespeak::{
    app::{Access, App, open_store},
    background::time_until,
    config::{Config, Values},
    telemetry,
};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

use request::TaskRequest;
use tasks::Tasks;

/// Commands of a sweep share transactions, and no more connections than the tasks use side by side.
const DEFAULTS: [(&str, &str); 5] = [
    ("BESPEAK_STRATEGY", "lanes"),
    ("BESPEAK_LANES", "1"),
    ("BESPEAK_WRITE_CONNECTIONS", "4"),
    ("BESPEAK_READ_CONNECTIONS", "2"),
    ("BESPEAK_LOG_FORMAT", "json"),
];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::parse(&Values::from_environment_or(&DEFAULTS))?;
    telemetry::start_logs(&config.log, config.log_format)?;
    telemetry::start_spans(config.otlp.as_ref())?;
    let store = open_store(&config, Access::Serve).await?;
    let tasks = Tasks::new(App::start(store, &config), config);
    run(service_fn(async |event: LambdaEvent<Value>| {
        let request = TaskRequest::parse(&event.payload, tasks.until())?;
        let deadline = event.context.deadline();
        let done = tasks.run(request, deadline).await;
        telemetry::flush_spans(time_until(deadline) / 2).await;
        Ok::<_, Diagnostic>(done?)
    }))
    .await
}
