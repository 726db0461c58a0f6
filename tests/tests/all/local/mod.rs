//! The local stack that replaces AWS on one machine: queues, the compose file, Prometheus and Grafana.

mod compose;
mod dashboard;
mod load;
mod metrics;
mod prometheus;
mod queues;
mod rules;

use std::path::PathBuf;

use serde_json::Value;

/// A file of the repository's folder `localstack/`.
fn path(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../localstack")).join(file)
}

fn text(file: &str) -> String {
    let path = path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(file: &str) -> Value {
    crate::deploy::yaml::documents(&format!("localstack/{file}")).remove(0)
}
