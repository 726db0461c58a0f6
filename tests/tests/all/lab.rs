//! `bespeak lab`: results are judged by the books, and the report has exactly the promised fields.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use bespeak_services::Mysql;
use bespeak_tests::{Books, Output, bespeak, clean_program, mysql_server, until_within};
use serde_json::Value;
use tempfile::TempDir;

const SCRATCH: &str =
    "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'bespeak\\_lab\\_%'";
/// A number for the name of each of them.
const SCRATCH_NAMES: &str = "SELECT CAST(CRC32(schema_name) AS SIGNED) FROM information_schema.schemata
    WHERE schema_name LIKE 'bespeak\\_lab\\_%'";

/// The fields of every result, and no others.
const FIELDS: [&str; 17] = [
    "accepted",
    "duplicates",
    "failed",
    "failureRate",
    "failures",
    "findings",
    "latenessP99Ms",
    "maxMs",
    "meanMs",
    "p50Ms",
    "p95Ms",
    "p99Ms",
    "refused",
    "requestsPerSecond",
    "scenario",
    "strategy",
    "waitedShare",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_unguarded_strategies_oversell() {
    // Given three strategies, and a crowd that wants twenty times the stock
    let (ran, page) = lab(&[
        "--json",
        "--scenario",
        "crowd",
        "--strategy",
        "lanes",
        "--strategy",
        "pessimistic",
        "--strategy",
        "unguarded",
    ])
    .await;
    // Then the guarded strategies sold every unit once
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = results(&ran);
    for guarded in ["lanes", "pessimistic"] {
        let run = &results[guarded];
        assert_eq!(run["duplicates"], 0, "{run:#}");
        assert_eq!(run["findings"], 0, "{run:#}");
        assert_eq!(run["accepted"], 100, "{run:#}");
        assert_eq!(run["refused"].as_u64().unwrap() + run["failed"].as_u64().unwrap(), 1_900, "{run:#}");
    }
    // And the unguarded one sold units twice and reports how many
    let unguarded = &results["unguarded"];
    assert!(unguarded["duplicates"].as_u64().unwrap() > 0, "{unguarded:#}");
    assert!(unguarded["accepted"].as_u64().unwrap() > 100, "{unguarded:#}");
    // And each result has the promised fields, and the page shows them
    for run in results.values() {
        let fields: Vec<_> = run.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS, "{run:#}");
        assert_eq!(run["scenario"], "crowd");
        assert!(run["p50Ms"].as_f64().unwrap() <= run["p99Ms"].as_f64().unwrap(), "{run:#}");
    }
    let environment = &ran.json()["environment"];
    for known in ["at", "version", "profile", "cpu", "kernel", "database", "databaseDurability"] {
        assert!(environment[known].as_str().is_some_and(|text| !text.is_empty()), "{known}: {environment:#}");
    }
    assert!(environment["cores"].as_u64().unwrap() > 0);
    for shown in ["2,000 at once for 100 units", "no guarded strategy oversold", "<svg", "unguarded"] {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
    assert!(!page.contains("<script") && !page.contains("src="), "the page must be self-contained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_is_kept_and_lost_updates_count_as_duplicates() {
    let arguments = [
        "--json",
        "--duration",
        "1500ms",
        "--scenario",
        "one-500",
        "--scenario",
        "fleet-100",
        "--scenario",
        "soak",
    ];
    let (ran, _) = lab(&[&arguments[..], &["--strategy", "unguarded", "--strategy", "lanes"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let runs = ran.json()["results"].as_array().unwrap().clone();
    let find = |scenario: &str, strategy: &str| {
        runs.iter().find(|run| run["scenario"] == scenario && run["strategy"] == strategy).unwrap().clone()
    };
    // At each rate, exactly the due number of requests was sent
    for (scenario, due) in [("one-500", 750), ("fleet-100", 150), ("soak", 1_800)] {
        let run = find(scenario, "lanes");
        let all: u64 =
            ["accepted", "refused", "failed"].map(|field| run[field].as_u64().unwrap()).iter().sum();
        assert_eq!(all, due, "{run:#}");
        assert_eq!((&run["duplicates"], &run["findings"]), (&0.into(), &0.into()), "{run:#}");
    }
    // The stock is large, so nothing is refused, and still updates were lost: only duplicates show that
    let run = find("one-500", "unguarded");
    assert!(run["duplicates"].as_u64().unwrap() > 0, "{run:#}");
    assert_eq!(run["refused"], 0, "{run:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_lock_holder_oversells_only_without_the_store_guard() {
    // Given servers that the lab starts itself
    let folder = TempDir::new().expect("a folder");
    let report = folder.path().join("lab.html");
    let shown = report.display().to_string();
    let arguments =
        ["lab", "--provide", "--json", "--report", &shown, "--duration", "300ms", "--scenario", "one-100"];
    // When holders of each kind of lock are stopped past their lease
    let ran =
        bespeak(&[&arguments[..], &["--strategy", "shedlock", "--strategy", "redlock"]].concat(), &[]).await;
    // Then each lock alone oversold, and none did with the store's guard
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = ran.json();
    let frozen = said["frozenHolder"].as_array().unwrap();
    assert_eq!(frozen.len(), 4, "{said:#}");
    for holder in frozen {
        let twice = holder["duplicates"].as_u64().unwrap();
        assert_eq!(twice == 0, holder["guarded"] == true, "{holder:#}");
        assert!(holder["frozenMs"].as_u64() > holder["leaseMs"].as_u64(), "{holder:#}");
        assert!(holder["soldMeanwhile"].as_u64().unwrap() > 0, "{holder:#}");
        // The lock itself failed in both cases.
        assert!(holder["locksLost"].as_u64().unwrap() > 0, "{holder:#}");
    }
    assert!(said["environment"]["redis"].as_str().unwrap().contains("3 nodes"), "{said:#}");
    // And the page cites its sources
    let page = std::fs::read_to_string(report).unwrap();
    for source in ["martin.kleppmann.com", "redis.io/docs", "github.com/lukas-krecan/ShedLock"] {
        assert!(page.contains(source), "{source} is not on the page");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lab_removes_its_databases() {
    // A server of its own, on which no other lab is at work.
    let server = Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let before = books.count(SCRATCH).await;
    let arguments = ["--duration", "200ms", "--scenario", "one-100", "--strategy", "lanes"];
    let (ran, _) = lab_on(&server, &arguments).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("one-100"), "{ran:?}");
    assert_eq!(books.count(SCRATCH).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_reports_the_completed_runs() {
    // Given a lab in its second run, on a server of its own
    let server = Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let folder = TempDir::new().expect("a folder");
    let report = folder.path().join("lab.html").display().to_string();
    let url = server.url();
    let before = books.count(SCRATCH).await;
    let child = clean_program("bespeak")
        .args(["lab", "--json", "--report", &report, "--database-url", &url])
        .args(["--strategy", "lanes", "--scenario", "one-100", "--scenario", "one-500", "--duration", "3s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Duration::from_secs(120);
    until_within(patience, "the first run begins", async || !books.integers(SCRATCH_NAMES).await.is_empty())
        .await;
    let first = books.integers(SCRATCH_NAMES).await;
    // Each run has a database of its own. The time between two of them is too short to be seen.
    until_within(patience, "the second run begins", async || {
        books.integers(SCRATCH_NAMES).await.iter().any(|name| !first.contains(name))
    })
    .await;
    // When it receives SIGINT
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    // Then it reports the first run, and leaves no database and no incomplete page
    assert_eq!(output.status.code(), Some(130));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["interrupted"], true);
    assert_eq!(said["results"].as_array().unwrap().len(), 1, "{said:#}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("stopped before the end"));
    assert_eq!(books.count(SCRATCH).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_servers_are_named() {
    let folder = TempDir::new().expect("a folder");
    let report = folder.path().join("lab.html").display().to_string();
    let ran = bespeak(&["lab", "--report", &report], &[]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--provide") && ran.err.contains("--database-url"), "{}", ran.err);
    let url = mysql_server().await.url();
    let ran =
        bespeak(&["lab", "--report", &report, "--strategy", "redlock", "--database-url", &url], &[]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("3 independent Redis nodes, but 0 are named"), "{}", ran.err);
    let ran = bespeak(&["lab", "--scenario", "one-10000"], &[]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("one-1000") && ran.err.contains("crowd"), "{}", ran.err);
}

#[test]
fn programs_for_production_are_built_without_the_strategies_that_oversell() {
    for program in ["bespeak-cli", "bespeak-reserve", "bespeak-relay-cron", "bespeak-consumer"] {
        let features = features_of_the_core(program);
        assert!(features.contains("bespeak feature \"mysql\""), "{program}: {features}");
        assert!(!features.contains("bespeak feature \"lab\""), "{program}: {features}");
    }
    // The lab itself has them, so the absence above means something.
    assert!(features_of_the_core("bespeak-lab").contains("bespeak feature \"lab\""));
}

#[test]
fn the_lab_is_found_beside_the_program_or_on_the_path() {
    // Given `bespeak` in a folder without the lab
    let bespeak = PathBuf::from(clean_program("bespeak").get_program());
    let installed = TempDir::new_in(bespeak.parent().unwrap()).unwrap();
    let alone = installed.path().join("bespeak");
    std::fs::hard_link(&bespeak, &alone).unwrap();
    let on_path = TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let path = format!("{}:/usr/bin:/bin", on_path.path().display());
        Command::new(&alone).args(arguments).env_clear().env("PATH", path).output().unwrap()
    };
    // Then it fails and says what to install, also as JSON
    let missing = run(&["simulate", "--users", "5"]);
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(2), "{text}");
    assert!(
        text.contains("needs the program bespeak-lab") && text.contains("cargo install --path lab"),
        "{text}"
    );
    let json: Value = serde_json::from_slice(&run(&["simulate", "--json"]).stdout).unwrap();
    assert!(json["detail"].as_str().unwrap().contains("bespeak-lab"), "{json}");
    // When a program of that name is on PATH, then it receives the arguments, and its exit code is the command's
    let script = "#!/bin/sh\necho on path: $*\nexit 7\n";
    executable(&on_path.path().join("bespeak-lab"), script);
    let found = run(&["--json", "lab", "--provide", "--help"]);
    assert_eq!(found.status.code(), Some(7), "{found:?}");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "on path: --json lab --provide --help\n");
    // One beside the program is preferred
    executable(&installed.path().join("bespeak-lab"), &script.replace("on path", "beside"));
    assert_eq!(String::from_utf8_lossy(&run(&["simulate"]).stdout), "beside: simulate\n");
}

fn executable(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, script).expect("the script is written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("the script can be run");
}

/// The features of the core crate in a build of one package, as Cargo resolves them.
fn features_of_the_core(package: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    cargo.current_dir(root).args(["tree", "--offline", "--edges", "normal,features", "--package", package]);
    let output = cargo.args(["--invert", "bespeak"]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the lab on the shared server; returns its output and its page.
async fn lab(arguments: &[&str]) -> (Output, String) {
    lab_on(mysql_server().await, arguments).await
}

/// Runs it on a server; its page too.
async fn lab_on(server: &Mysql, arguments: &[&str]) -> (Output, String) {
    let folder = TempDir::new().expect("a folder");
    let report: PathBuf = folder.path().join("lab.html");
    let url = server.url();
    let shown = report.display().to_string();
    let all = [&["lab", "--report", &shown, "--database-url", &url], arguments].concat();
    let ran = bespeak(&all, &[]).await;
    (ran, std::fs::read_to_string(report).unwrap_or_default())
}

/// The results of one scenario, by strategy.
fn results(ran: &Output) -> BTreeMap<String, Value> {
    let results = ran.json()["results"].as_array().unwrap_or_else(|| panic!("{ran:?}")).clone();
    results.into_iter().map(|run| (run["strategy"].as_str().expect("a strategy").to_owned(), run)).collect()
}
