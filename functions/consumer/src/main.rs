//! The Lambda function `consumer`: applies what Kafka delivers, each event once, whether Lambda reads the topic or the same
//! records come through a queue.
//!
//! Records are applied in the order of their offsets; what could not be applied now is reported, so that it comes again; what
//! never can be is set aside. Nothing goes on when it returns. Next: `event.rs` for what it is given, `batch.rs` for what it
//! does.

mod batch;
mod event;
mod redrive;
mod response;

use bespeak::{
    background::time_until,
    config::{Config, Values},
    telemetry,
};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

use batch::Batches;
use event::Delivered;

/// Batches come one by one, and each is one transaction.
const DEFAULTS: [(&str, &str); 4] = [
    ("BESPEAK_STRATEGY", "pessimistic"),
    ("BESPEAK_WRITE_CONNECTIONS", "1"),
    ("BESPEAK_READ_CONNECTIONS", "1"),
    ("BESPEAK_LOG_FORMAT", "json"),
];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::parse(&Values::from_environment_or(&DEFAULTS))?;
    telemetry::start_logs(&config.log, config.log_format)?;
    telemetry::start_spans(config.otlp.as_ref())?;
    let batches = Batches::new(&config).await?;
    run(service_fn(async |event: LambdaEvent<Value>| {
        let delivered = Delivered::parse(event.payload)?;
        let deadline = event.context.deadline();
        let consumed = batches.consume(delivered, deadline).await;
        telemetry::flush_spans(time_until(deadline) / 2).await;
        Ok::<_, Diagnostic>(consumed?)
    }))
    .await
}
