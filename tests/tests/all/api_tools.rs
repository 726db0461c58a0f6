//! The OpenAPI document as tools of others see it: two linters, and random requests that it allows and forbids.

use std::{path::Path, process::Command};

use bespeak_services::Tool;
use bespeak_tests::{Books, Client, Server};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Examples for each operation in each phase. More were run by hand: see `docs/design/testing.md`.
const EXAMPLES: &str = "25";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies one folder below the root")
}

/// The output of a tool that must succeed.
fn said(mut command: Command) -> String {
    let output = command.output().expect("the tool runs");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

#[test]
fn redocly_reports_no_error() {
    let mut command = Tool::REDOCLY.node().expect("the tool is there");
    command.args(["lint", "--extends=recommended", "docs/openapi.json"]).current_dir(root());
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    said(command);
}

#[test]
fn spectral_reports_no_error() {
    let folder = TempDir::new().expect("a folder");
    for (document, rules) in [("docs/openapi.json", "oas"), ("docs/events/asyncapi.json", "asyncapi")] {
        let ruleset = folder.path().join(format!("{rules}.json"));
        std::fs::write(&ruleset, format!(r#"{{"extends": "spectral:{rules}"}}"#)).expect("written");
        let mut command = Tool::SPECTRAL.node().expect("the tool is there");
        command.args(["lint", "--fail-severity=error", "--ruleset"]).arg(&ruleset).arg(document);
        command.current_dir(root()).env("HOME", folder.path());
        said(command);
    }
}

/// Random requests, valid and not, find no answer that the server's own document does not describe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_find_no_mismatch_between_document_and_server() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("room-101", 1_000).await;
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("schemathesis.toml"), SCHEMATHESIS).expect("written");
    let mut command = Tool::SCHEMATHESIS.command().expect("the tool is there");
    let document = folder.path().join("openapi.json");
    let (_, described) = server.request(Method::GET, "/openapi.json", "", "").await;
    std::fs::write(&document, with_nulls(described).to_string()).expect("written");
    command.args(["--config-file", "schemathesis.toml", "run", "openapi.json", "--url", &server.url]);
    command.args(["--max-examples", EXAMPLES]);
    command.args(["--workers", "1", "--no-color", "--seed", "1"]).current_dir(folder.path());
    let said = tokio::task::spawn_blocking(move || said(command)).await.expect("no panic");
    println!("{said}");
    books.assert_consistent().await;
}

/// The document, with null allowed for optional fields of requests: the server reads it as absent, which the document
/// does not promise.
fn with_nulls(mut document: Value) -> Value {
    let schemas = document["components"]["schemas"].as_object_mut().expect("schemas");
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| name.ends_with("Request")) {
        let required = schema["required"].clone();
        let is_optional =
            |name: &str| !required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
        for (name, property) in
            schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
        {
            if is_optional(name) {
                *property = json!({"anyOf": [property.take(), {"type": "null"}]});
            }
        }
    }
    document
}

/// Operations that would send something elsewhere are left out. Random tokens and ids are mostly unknown, and what is
/// known may be in any state: those answers are as good as success.
const SCHEMATHESIS: &str = r#"
[[operations]]
include-operation-id = ["testWebhook", "createWebhook"]
enabled = false

# Any text is CSV, so there is no invalid body. Each line of it is refused.
[[operations]]
include-operation-id = ["importResources"]
checks.negative_data_rejection.enabled = false

# A key that was used before for another body is refused.
[[operations]]
include-operation-id = ["reserve"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422", "429"]

# A schema cannot say that a span ends after it starts.
[[operations]]
include-operation-id = ["replayWebhookDeliveries"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "422"]

[checks]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "410", "429"]
"#;
