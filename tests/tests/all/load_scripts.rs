//! The k6 scripts of `tests/load/`, run for two seconds each: they pass against a correct server and fail against
//! others.

use std::{
    net::SocketAddr,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    routing::{get, post},
};
use bespeak_services::Tool;
use bespeak_tests::{Books, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Every script, with settings that make it short.
const SCRIPTS: [(&str, &[(&str, &str)]); 5] = [
    ("arrivals.js", &[("RATE", "30"), ("DURATION", "2s"), ("USERS", "10")]),
    ("arrivals.js", &[("RATE", "30"), ("DURATION", "2s"), ("USERS", "10"), ("VEHICLES", "20")]),
    ("concurrent.js", &[("USERS", "10"), ("UNITS", "5"), ("DURATION", "2s")]),
    ("flash-sale.js", &[("USERS", "60"), ("UNITS", "7")]),
    (
        "hold-then-commit.js",
        &[("RATE", "20"), ("DURATION", "2s"), ("USERS", "20"), ("VEHICLES", "5"), ("THINK_SECONDS", "0.1")],
    ),
];

/// The exit code of k6 if a threshold was crossed.
const CROSSED: i32 = 99;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_passes_against_a_server() {
    let books = Books::mysql().await;
    let server = Server::start(&books, &[]).await;
    for (script, settings) in SCRIPTS {
        let ran = k6(script, &server.url, settings).await;
        assert_eq!(ran.code, 0, "{script}: {}", ran.said);
        assert!(ran.counted("units_held") > 0.0, "{script} held nothing: {}", ran.said);
    }
    drop(server);
    books.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_fails_on_an_oversell() {
    // Given a server that grants everything and records only every second unit
    let url = generous().await;
    for (script, settings) in SCRIPTS {
        // Each script finds that the units held and the units taken differ
        let ran = k6(script, &url, settings).await;
        assert_eq!(ran.code, CROSSED, "{script}: {}", ran.said);
        assert!(ran.counted("ledger") > 0.0, "{script}: {}", ran.said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_fail_against_a_slow_or_absent_server() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    let ran =
        k6("arrivals.js", &server.url, &[("RATE", "20"), ("DURATION", "1s"), ("P99_MS", "0.001")]).await;
    assert_eq!(ran.code, CROSSED, "{}", ran.said);
    let url = server.url.clone();
    drop(server);
    let ran = k6("arrivals.js", &url, &[("RATE", "20"), ("DURATION", "1s")]).await;
    assert_ne!(ran.code, 0, "{}", ran.said);
}

/// The result of one run of k6.
struct Ran {
    code: i32,
    said: String,
    summary: Value,
}

impl Ran {
    fn counted(&self, metric: &str) -> f64 {
        self.summary["metrics"][metric]["count"].as_f64().unwrap_or(f64::NAN)
    }
}

async fn k6(script: &str, url: &str, settings: &[(&str, &str)]) -> Ran {
    let folder = TempDir::new().expect("a folder");
    let summary = folder.path().join("summary.json");
    let mut command = Tool::K6.command().unwrap_or_else(|missing| panic!("{missing}"));
    command
        // With a free port for its own API, and without the usage report to its vendor.
        .args(["run", "--quiet", "--no-color", "--no-usage-report", "--address", "127.0.0.1:0"])
        .arg("--summary-export")
        .arg(&summary)
        .arg(root().join("tests/load").join(script))
        .env("BASE_URL", url)
        .envs(settings.iter().copied());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let Output { status, stdout, stderr } = ran.expect("k6 can be run");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let summary = std::fs::read(&summary).unwrap_or_default();
    Ran {
        code: status.code().unwrap_or(-1),
        said,
        summary: serde_json::from_slice(&summary).unwrap_or_default(),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder up")
}

/// Starts a server that grants every request; returns its URL.
async fn generous() -> String {
    let total = Arc::new(AtomicU64::new(0));
    let granted = Arc::new(AtomicU64::new(0));
    let (defined, shown, held) = (total.clone(), total.clone(), granted.clone());
    let router = Router::new()
        .route(
            "/api/v1/resources",
            post(async move |Json(body): Json<Value>| {
                defined.store(body["totalStock"].as_u64().unwrap_or(0), Ordering::Relaxed);
                Json(body)
            }),
        )
        .route(
            "/api/v1/resources/{id}",
            get(async move || {
                let total = shown.load(Ordering::Relaxed);
                // The first resource that is read reports the units of all of them.
                let taken = (granted.swap(0, Ordering::Relaxed) / 2).min(total);
                Json(json!({"totalStock": total, "availableStock": total - taken}))
            }),
        )
        .route(
            "/api/v1/reserve",
            post(async move || {
                held.fetch_add(1, Ordering::Relaxed);
                Json(json!({"token": "a-token", "status": "HELD"}))
            }),
        )
        .route("/api/v1/commit", post(async || Json(json!({"status": "COMMITTED"}))))
        // A release is accepted, and half of the units stay missing.
        .route("/api/v1/release", post(async || Json(json!({"status": "HELD"}))));
    let listener =
        tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
