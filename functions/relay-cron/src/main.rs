//! The Lambda function `relay-cron`: the background tasks of a server, run by a schedule.
//!
//! It expires overdue holds, publishes the outbox, delivers webhooks and purges old records, until shortly before its
//! deadline. Nothing runs when it has answered, so a frozen environment holds no lease and no unacknowledged event.
//! Next: `request.rs` for the events that it accepts, `tasks.rs` for the tasks, `report.rs` for its answer.

mod report;
mod request;
mod tasks;

use bespeak::{
    app::{Access, App, open_store, refuse_newer_schema, start_telemetry},
    background::time_until,
    config::{Config, Values},
    telemetry,
};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

use request::TaskRequest;
use tasks::Tasks;

/// The commands of a sweep share transactions, and the connections suffice for all tasks side by side.
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
    start_telemetry(&config)?;
    let store = open_store(&config, Access::Serve).await?;
    refuse_newer_schema(&*store).await?;
    let tasks = Tasks::new(App::start(store, &config), config);
    run(service_fn(async |event: LambdaEvent<Value>| {
        let request = TaskRequest::parse(&event.payload, tasks.scheduled_until())?;
        let deadline = event.context.deadline();
        let report = tasks.run(request, deadline).await;
        telemetry::flush_spans(time_until(deadline) / 2).await;
        Ok::<_, Diagnostic>(report?)
    }))
    .await
}
