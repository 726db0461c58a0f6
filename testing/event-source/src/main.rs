//! Takes Lambda's place around the functions on one machine: invokes `consumer` with the records of a topic and
//! `relay-cron` on a schedule, through the address at which `cargo lambda watch` accepts invocations.
//!
//! `cargo xtask lambda events` runs this program. Usage: `event-source ADDRESS SECONDS`, such as `127.0.0.1:9000 60`;
//! the topic is the one that `BESPEAK_EVENTS_URL` names.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a tool: it ends if it cannot set itself up"
)]

use std::{
    env,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bespeak::{
    config::{Config, Values},
    events::EventLog,
};
use bespeak_event_source::{EventSource, Invoke, Mapping};
use bespeak_lab::load::Target;
use http::Method;
use serde_json::Value;

/// The event of the schedule, with a request that ends when no work is left.
const ALL_TASKS: &str = include_str!("../../../events/relay-cron-all.json");

/// A function behind the address of `cargo lambda watch`.
struct Watched {
    target: Target,
    name: &'static str,
}

#[async_trait]
impl Invoke for Watched {
    async fn invoke(&self, event: Value) -> Result<Value, String> {
        let path = format!("/2015-03-31/functions/{}/invocations", self.name);
        let mut connection = self.target.connect().await.map_err(|error| error.to_string())?;
        let sent = connection.send(Method::POST, &path, &[], event.to_string().into()).await;
        let answer = sent.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status.is_success() {
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
        } else {
            Err(text)
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, seconds] = arguments.as_slice() else { panic!("usage: event-source ADDRESS SECONDS") };
    let every = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let target = Target::new(&format!("http://{address}")).expect("an address, such as 127.0.0.1:9000");
    let config = Config::parse(&Values::from_environment()).expect("valid settings");
    let EventLog::Kafka(kafka) = &config.events else {
        panic!("BESPEAK_EVENTS_URL is {:?}: there is no topic to read", config.events)
    };
    let cron = Watched { target: target.clone(), name: "relay-cron" };
    let consumer = Watched { target, name: "consumer" };
    // The first run of the schedule creates the topic.
    scheduled(&cron).await;
    let mut scheduled_at = Instant::now();
    let group = format!("{}-event-source", kafka.group);
    let mut source = EventSource::start(&kafka.servers, &kafka.topic, &group, Mapping::default()).await;
    loop {
        if scheduled_at.elapsed() >= every {
            scheduled_at = Instant::now();
            scheduled(&cron).await;
        }
        let delivered = source.deliver(&consumer).await;
        if delivered.invocations > 0 {
            eprintln!(
                "consumer: {} records, {} invocations, {} of them failed",
                delivered.records, delivered.invocations, delivered.failures
            );
        }
    }
}

/// Invokes `relay-cron` once with all tasks.
async fn scheduled(cron: &Watched) {
    let event = serde_json::from_str(ALL_TASKS).expect("the sample is JSON");
    match cron.invoke(event).await {
        Ok(summary) => eprintln!("relay-cron: {summary}"),
        Err(failure) => eprintln!("relay-cron failed and will be invoked again: {failure}"),
    }
}
