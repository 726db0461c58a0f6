//! The Lambda function `consumer`: applies the records of Kafka, each event once, whether Lambda reads the topic or the
//! records arrive through a queue.
//!
//! Records are applied in the order of their offsets. Records that cannot be applied at present are reported as failed, and
//! delivered again; records that can never be applied become dead letters. Nothing runs when it has answered. Next:
//! `event.rs` for the events that it accepts, `batch.rs` for their handling, `response.rs` for its answer.

mod batch;
mod event;
mod redrive;
mod response;

use bespeak::{
    app::start_telemetry,
    background::time_until,
    config::{Config, Values},
    telemetry,
};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

use batch::BatchHandler;
use event::Batch;

/// Batches arrive one at a time, and a transaction needs only one connection.
const DEFAULTS: [(&str, &str); 4] = [
    ("BESPEAK_STRATEGY", "pessimistic"),
    ("BESPEAK_WRITE_CONNECTIONS", "1"),
    ("BESPEAK_READ_CONNECTIONS", "1"),
    ("BESPEAK_LOG_FORMAT", "json"),
];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::parse(&Values::from_environment_or(&DEFAULTS))?;
    start_telemetry(&config)?;
    let handler = BatchHandler::new(&config).await?;
    run(service_fn(async |event: LambdaEvent<Value>| {
        let batch = Batch::parse(event.payload)?;
        let deadline = event.context.deadline();
        let response = handler.consume(batch, deadline).await;
        telemetry::flush_spans(time_until(deadline) / 2).await;
        Ok::<_, Diagnostic>(response?)
    }))
    .await
}
