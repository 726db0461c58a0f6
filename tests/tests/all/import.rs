//! Import over HTTP: each line is handled alone and reported by its number.

use bespeak_tests::{Api, Books, Client, each_store};
use serde_json::{Value, json};

each_store!(
    valid_lines_are_imported_and_invalid_lines_are_refused_by_number,
    a_dry_run_reports_changes_and_writes_nothing,
    invalid_imports_are_refused,
);

async fn import(api: &Api, query: &str, csv: &str) -> Value {
    let reply = api
        .raw(&format!("/api/v1/resources/import{query}"), &[("content-type", "text/csv")], csv.to_owned())
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

async fn valid_lines_are_imported_and_invalid_lines_are_refused_by_number(books: Books) {
    let api = Api::start(books).await;
    api.stock("taken", 5).await;
    api.hold("k", "taken", 4).await;
    api.stock("same", 7).await;
    let csv = "\u{feff}resource_id,total_stock\r\n# a comment\r\n\r\nnew,10\r\nsame,7\r\n taken , 6 \r\nbad id,1\r\n\
        few\r\nmany,1,2\r\nnumber,ten\r\ntoo-much,9007199254740992\r\nnew,11\r\n\"quoted\",3\r\n\"open,4\r\nlast,5";
    let report = import(&api, "", csv).await;
    insta::assert_json_snapshot!("valid_lines_are_imported_and_invalid_lines_are_refused_by_number", report);
    assert_eq!(
        api.get("/api/v1/resources/last").await.json()["totalStock"],
        5,
        "the line after an open quote"
    );
    assert_eq!(api.get("/api/v1/resources/taken").await.json()["availableStock"], 2);
    let refused = import(&api, "", "taken,3\n").await;
    assert_eq!((&refused["refused"], &refused["lines"][0]["line"]), (&json!(1), &json!(1)));
    let again = import(&api, "", "new,10\nsame,7\n").await;
    assert_eq!((&again["unchanged"], &again["lines"]), (&json!(2), &json!([])));
    api.books.assert_consistent().await;
}

async fn a_dry_run_reports_changes_and_writes_nothing(books: Books) {
    let api = Api::start(books).await;
    api.stock("a", 1).await;
    let report = import(&api, "?dryRun=true", "a,2\nb,3\n").await;
    assert_eq!(
        (&report["dryRun"], &report["created"], &report["changed"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!(report["lines"][0]["previousTotalStock"], 1);
    assert_eq!(api.get("/api/v1/resources/a").await.json()["totalStock"], 1);
    assert_eq!(api.get("/api/v1/resources/b").await.status, 404);
}

async fn invalid_imports_are_refused(books: Books) {
    let api = Api::with(books, &[("BESPEAK_IMPORT_BYTES_MAX", "2048")], None).await;
    let path = "/api/v1/resources/import";
    let csv = ("content-type", "text/csv; charset=utf-8");
    assert_eq!(api.raw(path, &[("content-type", "application/json")], "a,1").await.problem().0, 415);
    assert_eq!(api.raw(path, &[csv], "a,1\n".repeat(600)).await.problem().0, 413);
    assert_eq!(api.raw(&format!("{path}?dryRun=perhaps"), &[csv], "a,1").await.problem().0, 422);
    assert_eq!(api.raw(&format!("{path}?dry=true"), &[csv], "a,1").await.json()["field"], "dry");
    assert_eq!(api.raw(path, &[csv], "").await.json()["created"], 0);
    let bytes = api.raw(path, &[csv], b"\xff\xfe,1\nok,1\n".to_vec()).await.json();
    assert_eq!((&bytes["created"], &bytes["lines"][0]["result"]), (&json!(1), &json!("refused")));
}
