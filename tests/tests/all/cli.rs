//! The command line, as a user runs it.

use std::fmt::Write;

use bespeak_tests::{Books, Client, Output, Server, bespeak};
use serde_json::json;

async fn client(server: &Server, args: &[&str]) -> Output {
    bespeak(args, &[("BESPEAK_SERVER_URL", &server.url)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_and_reservations_from_the_command_line() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    let set = client(&server, &["stock", "set", "-r", "hotel/room 1", "-t", "1"]).await;
    assert_eq!(set.code, 1, "{set:?}");
    assert!(set.err.contains("resourceId must not contain ' '"), "{}", set.err);
    assert_eq!(client(&server, &["stock", "set", "-r", "hotel/1", "--total", "4"]).await.code, 0);
    let checked = client(&server, &["stock", "check", "--resource", "hotel/1"]).await;
    for part in ["hotel/1", "4 / 4 (100 %)", "version", "updated"] {
        assert!(checked.out.contains(part), "{part} is not in\n{}", checked.out);
    }
    let json =
        bespeak(&["stock", "check", "-r", "hotel/1", "--json"], &[("OPENRESERVE_SERVER_URL", &server.url)])
            .await;
    assert_eq!(json.json()["availableStock"], 4);

    let made = client(
        &server,
        &[
            "reserve",
            "-r",
            "hotel/1",
            "-q",
            "3",
            "--ttl",
            "60",
            "--holder",
            "ann",
            "--metadata",
            r#"{"a":1}"#,
            "--key",
            "k",
            "--json",
        ],
    )
    .await;
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let sold_out = client(&server, &["reserve", "-r", "hotel/1", "-q", "2"]).await;
    assert_eq!(sold_out.code, 1);
    assert!(
        sold_out.err.contains("out-of-stock") && sold_out.err.contains("next hold expires"),
        "{}",
        sold_out.err
    );
    let sold_out = client(&server, &["reserve", "-r", "hotel/1", "-q", "2", "--json"]).await;
    assert_eq!((sold_out.code, &sold_out.json()["availableStock"]), (1, &json!(1)));
    assert_eq!(client(&server, &["extend", &token, "--ttl", "90", "--json"]).await.json()["version"], 2);
    assert_eq!(client(&server, &["commit", &token, "--json"]).await.json()["status"], "COMMITTED");
    let shown = client(&server, &["show", &token]).await;
    for part in ["COMMITTED", "3 x hotel/1", "ann", r#"{"a":1}"#] {
        assert!(shown.out.contains(part), "{part} is not in\n{}", shown.out);
    }
    assert_eq!(client(&server, &["cancel", &token, "--json"]).await.json()["status"], "CANCELLED");
    let items =
        client(&server, &["reserve", "--item", "hotel/1=1", "--item", "hotel/1=2", "--json"]).await.json();
    assert_eq!(items["quantity"], 3);
    let token = items["token"].as_str().expect("a token");
    assert_eq!(client(&server, &["release", token, "--json"]).await.json()["status"], "RELEASED");
    let late = client(&server, &["commit", token]).await;
    assert_eq!((late.code, late.err.contains("already-released")), (1, true), "{late:?}");
    books.assert_consistent().await;
}

/// A script that reserves again under the key of an order that ended sees a failure, with the token of that order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_an_ended_reservation_fails_on_the_command_line() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 1).await;
    let order = ["reserve", "-r", "seat", "--key", "k"];
    let made = client(&server, &[&order[..], &["--json"]].concat()).await.json();
    let token = made["token"].as_str().expect("a token");
    assert_eq!(client(&server, &["release", token]).await.code, 0);
    let again = client(&server, &order).await;
    assert_eq!(again.code, 1, "{again:?}");
    for part in ["its hold was released", "a new attempt needs a new key", "reservation-ended, 409", token] {
        assert!(again.err.contains(part), "{part} is not in\n{}", again.err);
    }
    let json = client(&server, &[&order[..], &["--json"]].concat()).await;
    assert_eq!((json.code, &json.json()["reservation"]["status"]), (1, &json!("RELEASED")));
    books.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_import_keeps_line_numbers() {
    const LINES: usize = 12_000;
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("stock.csv");
    let mut csv = String::from("resource_id,total_stock\n# comment\n");
    for n in 0..LINES {
        let _ = writeln!(csv, "r{n:06},{}", n % 7);
    }
    // The resource of line 3 once more, in a later part of the import, and a malformed line.
    csv.push_str("r000000,9\nnonsense\n");
    std::fs::write(&file, csv).expect("written");
    let path = file.to_str().expect("text");
    let dry = client(&server, &["stock", "import", "--file", path, "--dry-run"]).await;
    assert_eq!(dry.code, 1);
    assert!(dry.out.contains("would be created 12000") && dry.out.contains("refused 2"), "{}", dry.out);
    assert_eq!(client(&server, &["stock", "list", "--json"]).await.json(), json!([]), "a dry run");
    let done = client(&server, &["stock", "import", "-f", path, "--json"]).await;
    assert_eq!(done.code, 1, "some lines were refused");
    let report = done.json();
    assert_eq!((&report["created"], &report["refused"]), (&json!(LINES), &json!(2)));
    let refused: Vec<_> = report["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .filter(|line| line["result"] == "refused")
        .collect();
    assert_eq!((&refused[0]["line"], &refused[1]["line"]), (&json!(LINES + 3), &json!(LINES + 4)));
    assert!(
        refused[0]["problem"].as_str().is_some_and(|problem| problem.contains("line 3")),
        "{}",
        refused[0]
    );
    let listed = client(&server, &["stock", "list", "--json"]).await.json();
    assert_eq!(listed.as_array().map(Vec::len), Some(LINES));
    assert_eq!(
        client(&server, &["stock", "list", "--limit", "5", "--after", "r000010", "--json"])
            .await
            .json()
            .as_array()
            .map(Vec::len),
        Some(5)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_sale_passes_and_writes_a_complete_report() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let report = folder.path().join("report.html");
    let path = report.to_str().expect("text");
    let sale = bespeak(
        &[
            "simulate", "--users", "300", "--stock", "40", "--ramp", "0s", "--seed", "7", "--report", path,
            "--json",
        ],
        &[],
    )
    .await;
    assert_eq!(sale.code, 0, "{sale:?}");
    let json = sale.json();
    assert_eq!(
        (&json["accepted"], &json["refused"], &json["passed"]),
        (&json!(40), &json!(260), &json!(true))
    );
    assert_eq!(json["reserve"]["counts"], json!({"200": 40, "409": 260}));
    let html = std::fs::read_to_string(&report).expect("a report");
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(!html.contains("src=") && !html.contains("href=\"http"), "needs no network");

    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("mine", 5).await;
    let taken = client(&server, &["reserve", "-r", "mine"]).await;
    assert_eq!(taken.code, 0);
    let args =
        ["simulate", "--server", &server.url, "-r", "mine", "--users", "5", "--stock", "9", "--report", path];
    let in_use = bespeak(&args, &[]).await;
    assert_eq!(in_use.code, 2);
    assert!(in_use.err.contains("in use"), "{}", in_use.err);
    assert_eq!(
        client(&server, &["stock", "check", "-r", "mine", "--json"]).await.json()["totalStock"],
        5,
        "untouched"
    );
    let args = [
        "simulate",
        "--server",
        &server.url,
        "--users",
        "50",
        "--stock",
        "10",
        "--quantity",
        "3",
        "--ramp",
        "200ms",
        "--report",
        path,
    ];
    let sale = bespeak(&args, &[]).await;
    assert_eq!(sale.code, 0, "{sale:?}");
    assert!(sale.out.contains("passed") && sale.out.contains("200 x 3, 409 x 47"), "{}", sale.out);
    books.assert_consistent().await;
}

#[tokio::test]
async fn settings_are_shown_and_an_invalid_one_stops_the_start_with_one_line() {
    let shown = bespeak(&["config", "--json"], &[("BESPEAK_LANE_BATCH", "9")]).await;
    assert_eq!(shown.code, 0);
    let settings = shown.json();
    let batch =
        settings.as_array().expect("settings").iter().find(|setting| setting["name"] == "BESPEAK_LANE_BATCH");
    assert_eq!(
        batch.map(|batch| (&batch["value"], &batch["source"])),
        Some((&json!("9"), &json!("environment")))
    );
    for (args, environment, says) in [
        (vec!["serve"], ("BESPEAK_LANE_QUEUE", "lots"), r#"BESPEAK_LANE_QUEUE="lots" is not valid"#),
        (vec!["serve", "--listen", "nowhere"], ("BESPEAK_X", ""), "BESPEAK_LISTEN=\"nowhere\" is not valid"),
        (vec!["serve", "--log", "a=b=c"], ("BESPEAK_X", ""), "BESPEAK_LOG=\"a=b=c\" is not valid"),
        (vec!["serve"], ("BESPEAK_DATABASE_URL", "postgres://x"), "BESPEAK_DATABASE_URL"),
        (vec!["serve"], ("BESPEAK_DATABASE_URL", "sqlite:///nowhere/x.db"), "BESPEAK_DATABASE_URL"),
        (vec!["config"], ("BESPEAK_ITEMS_MAX", "0"), "BESPEAK_ITEMS_MAX"),
    ] {
        let ran = bespeak(&args, &[environment]).await;
        let lines: Vec<&str> = ran.err.lines().filter(|line| !line.contains("warning:")).collect();
        assert_eq!((ran.code, lines.len()), (2, 1), "{args:?} {ran:?}");
        assert!(lines[0].contains(says), "{}", lines[0]);
    }
    let misspelt = bespeak(&["config"], &[("BESPEAK_LANE_BACTH", "9")]).await;
    assert!(misspelt.err.contains("did you mean BESPEAK_LANE_BATCH?"), "{}", misspelt.err);
}

#[tokio::test]
async fn migrate_is_repeatable_and_usage_errors_exit_with_2() {
    let books = Books::sqlite();
    let url = books.url();
    for _ in 0..2 {
        assert_eq!(
            bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await.code,
            0,
            "may be run again"
        );
    }
    books.assert_consistent().await;
    let unreachable = bespeak(&["stock", "check", "-r", "a", "--server", "http://127.0.0.1:9"], &[]).await;
    assert_eq!(unreachable.code, 1);
    assert!(unreachable.err.contains("is `bespeak serve` running there?"), "{}", unreachable.err);
    assert_eq!(bespeak(&["reserve"], &[]).await.code, 2);
    assert_eq!(bespeak(&["simulate", "--commit-share", "2"], &[]).await.code, 2);
    let help = bespeak(&["serve", "--help"], &[]).await;
    assert!(help.out.contains("--lane-queue") && help.out.contains("BESPEAK_LANE_QUEUE"), "{}", help.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_reports_the_state_of_the_server() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    for arguments in [&["health"] as &[&str], &["health", "--live"]] {
        let asked = client(&server, arguments).await;
        assert_eq!(asked.code, 0, "{asked:?}");
    }
    let unreachable = bespeak(&["health", "--server", "http://127.0.0.1:1"], &[]).await;
    assert_eq!(unreachable.code, 1, "{unreachable:?}");
    assert!(unreachable.err.contains("http://127.0.0.1:1 cannot be reached"), "{}", unreachable.err);
}
