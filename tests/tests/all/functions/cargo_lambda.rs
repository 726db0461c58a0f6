//! `cargo lambda`: its emulator of the Runtime API and `invoke` with the samples, as on a machine without an AWS
//! account.

use std::{
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak_services::Tool;
use bespeak_tests::{Books, Topic, bespeak, clean_program, until_within};
use serde_json::{Value, json};

/// The emulator and the functions that it invokes; all are stopped when this is dropped.
struct Emulator {
    port: u16,
    processes: Vec<Child>,
}

impl Emulator {
    async fn start() -> Self {
        // If another process takes the port in the meantime, the emulator fails with a message.
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let watch = cargo_lambda("watch", port)
            .args(["--only-lambda-apis", "--disable-cors"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cargo lambda watch can be run");
        let emulator = Self { port, processes: vec![watch] };
        let patience = Duration::from_secs(60);
        until_within(patience, "the emulator listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        emulator
    }

    /// Starts a function, as `cargo lambda watch` does once it has built it.
    fn function(&mut self, name: &str, settings: &[(&str, &str)]) {
        let function = clean_program(name)
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{}/.rt/{name}", self.port))
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.processes.push(function.expect("a function can be started"));
    }

    /// `cargo lambda invoke NAME --data-file FILE`.
    async fn invoke(&self, name: &str, file: &str) -> Output {
        let mut command = cargo_lambda("invoke", self.port);
        command.args([name, "--data-file", file]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it can be run")
    }

    /// The answer of an invocation that must succeed.
    async fn answer(&self, name: &str, file: &str) -> Value {
        let output = self.invoke(name, file).await;
        assert!(output.status.success(), "{name} {file}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // The process may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn cargo_lambda(subcommand: &str, port: u16) -> Command {
    let mut command = Tool::CARGO_LAMBDA.command().unwrap_or_else(|missing| panic!("{missing}"));
    command.args(["lambda", subcommand, "--invoke-address", "127.0.0.1", "--invoke-port", &port.to_string()]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_is_answered_through_cargo_lambda() {
    let (books, topic) = (Books::mysql().await, Topic::new().await);
    let (database, events) = (books.url(), topic.url());
    let migrated = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &database)]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    let settings = [("BESPEAK_DATABASE_URL", database.as_str()), ("BESPEAK_EVENTS_URL", &events)];
    let mut emulator = Emulator::start().await;
    for name in ["reserve", "relay-cron", "consumer"] {
        emulator.function(name, &settings);
    }
    super::commit(&books, vec![super::SAMPLE.to_owned()]).await;
    for gateway in ["http-api", "rest-api", "function-url", "alb"] {
        let answer = emulator.answer("reserve", &format!("events/reserve-{gateway}.json")).await;
        assert_eq!(answer["statusCode"], 200, "{gateway}: {answer}");
    }
    for task in ["expire", "relay", "webhooks", "purge", "all"] {
        let summary = emulator.answer("relay-cron", &format!("events/relay-cron-{task}.json")).await;
        assert_eq!(summary["task"], task, "{summary}");
    }
    assert_eq!(topic.read().await.len(), 1, "the hold");
    for source in ["msk", "self-managed", "sqs"] {
        let answer = emulator.answer("consumer", &format!("events/consumer-{source}.json")).await;
        assert_eq!(answer, json!({"batchItemFailures": []}), "{source}");
    }
    assert_eq!(books.count("SELECT COUNT(*) FROM smart_keys WHERE code IS NOT NULL").await, 1);
    // An event for another function is an error with a message.
    let failed = emulator.invoke("consumer", "events/relay-cron-all.json").await;
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("Bespeak.NoBatch"), "{said}");
}

/// The events in the samples match the schema that is promised to consumers.
#[test]
fn the_samples_match_the_event_schema() {
    let schema = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/events/Reservation.schema.json"
    ));
    let schema: Value = serde_json::from_str(&schema.expect("read")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let event = bespeak_tests::sample("consumer-msk");
    let record = &event["records"]["bespeak.events-3"][0];
    let data = STANDARD.decode(record["value"].as_str().expect("text")).expect("base64");
    let data: Value = serde_json::from_slice(&data).expect("JSON");
    assert!(validator.is_valid(&data), "{data}");
    let body = bespeak_tests::sample("consumer-sqs")["Records"][0]["body"].as_str().expect("text").to_owned();
    let piped: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&piped["value"], &piped["headers"]), (&record["value"], &record["headers"]));
}
