//! Import over HTTP: each line is handled alone and reported by its number.

use bespeak_tests::{Api, Books, Client, each_store};
use serde_json::{Value, json};

each_store!(
    valid_lines_are_imported_and_invalid_lines_are_refused_by_number,
    a_dry_run_reports_changes_and_writes_nothing,
    invalid_imports_are_refused,
    every_line_is_applied_as_written_or_refused_with_its_number,
    the_report_of_a_large_import_is_bounded,
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

async fn every_line_is_applied_as_written_or_refused_with_its_number(books: Books) {
    let api = Api::start(books).await;
    // The body, and the lines that are created, refused and skipped.
    for (n, (csv, created, refused, skipped)) in [
        ("a,1\rb,2\rc,3", &[1, 2, 3][..], &[][..], 0),
        ("resource_id,total_stock\ra,1\rb,2\r", &[2, 3], &[], 1),
        ("a,1\nb,2\r\nc,3\rd,4", &[1, 2, 3, 4], &[], 0),
        ("a,1\r\r\nb,2\n\nc,3", &[1, 3, 5], &[], 2),
        ("\u{feff}resource_id,total_stock\r\na,1", &[2], &[], 1),
        ("\u{feff}", &[], &[], 0),
        ("resource_id,total_stock", &[], &[], 1),
        ("# note\nresource_id,total_stock\na,1\nresource_id,total_stock\nb,2", &[3, 5], &[4], 2),
        ("a,1\na,1\n\"a\",2\nb,1", &[1, 4], &[2, 3], 0),
        ("a,1,\n,b,1\na;1\na\t1\na\na,\n,1\na,1", &[8], &[1, 2, 3, 4, 5, 6, 7], 0),
        (" a , 1 \n\tb\t,\t2\t\n \n", &[1, 2], &[], 1),
        ("a,+1\na,1.0\na,1e1\na,0x1\na,-0\na,1_000\na,1", &[7], &[1, 2, 3, 4, 5, 6], 0),
        ("a\0,1\nb,1\0\nc,1", &[3], &[1, 2], 0),
        ("\"a\nb\",1\nc,1", &[3], &[1, 2], 0),
        ("\"a\"x,1\n\"a\"\"b\",1\na\"b\",1\n\"a\",\"1\"", &[4], &[1, 2, 3], 0),
        ("a,1\u{2028}b,2\na\u{85},1\na\u{b},1", &[], &[1, 2, 3], 0),
    ]
    .into_iter()
    .enumerate()
    {
        let report = import(&api, "?dryRun=true", csv).await;
        let lines = |result: &str| -> Vec<u64> {
            let lines = report["lines"].as_array().expect("lines").iter();
            let lines = lines.filter(|line| line["result"] == result);
            lines.map(|line| line["line"].as_u64().expect("a number")).collect()
        };
        assert_eq!(
            (lines("created"), lines("refused")),
            (created.to_vec(), refused.to_vec()),
            "{n}: {csv:?}"
        );
        assert_eq!(report["skipped"], skipped, "{n}: {csv:?}");
        assert_eq!((&report["omitted"], &report["unchanged"]), (&json!(0), &json!(0)), "{n}");
    }
    let csv = ("content-type", "text/csv");
    for bytes in [&b"a,1\n\xff,1\nb,1"[..], b"a,1\nx\xc3,1\nb,1", b"\xff\xfea\x00,\x001\x00\n\x00\nb,1"] {
        let report = api.raw("/api/v1/resources/import?dryRun=true", &[csv], bytes.to_vec()).await.json();
        let total: u64 = ["created", "refused", "skipped"]
            .map(|count| report[count].as_u64().expect("a number"))
            .iter()
            .sum();
        assert_eq!((total, report["refused"].as_u64() >= Some(1)), (3, true), "{report}");
    }
    // What the report says is what happened.
    import(&api, "", "a,1\rb,2\rc,3").await;
    let ids: Vec<_> = api.get("/api/v1/resources").await.json()["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .map(|resource| (resource["resourceId"].clone(), resource["totalStock"].clone()))
        .collect();
    assert_eq!(ids, [(json!("a"), json!(1)), (json!("b"), json!(2)), (json!("c"), json!(3))]);
}

async fn the_report_of_a_large_import_is_bounded(books: Books) {
    let api = Api::start(books).await;
    let mut csv = "x\n".repeat(50_000);
    csv.push_str("a,1\n");
    let report = import(&api, "", &csv).await;
    assert_eq!((&report["refused"], &report["created"]), (&json!(50_000), &json!(1)));
    assert_eq!(report["omitted"], 49_000);
    let lines = report["lines"].as_array().expect("lines");
    assert_eq!(
        (lines.len(), &lines[999]["line"], &lines[1_000]["line"]),
        (1_001, &json!(1_000), &json!(50_001))
    );
    // A refusal does not repeat a field that is too long for an id.
    let long = import(&api, "", &format!("{},1\n", "x".repeat(1_000_000))).await;
    assert!(long["refused"] == 1 && long.to_string().len() < 1_000, "{}", long.to_string().len());
    // Lines that the store refuses are among the first, too, although their batch ends later.
    api.stock("taken", 5).await;
    api.hold("k", "taken", 4).await;
    let late = import(&api, "", &format!("taken,3\n{}", "x\n".repeat(2_500))).await;
    let lines = late["lines"].as_array().expect("lines");
    assert_eq!(
        (lines.len(), &lines[0]["resourceId"], &late["omitted"]),
        (1_000, &json!("taken"), &json!(1_501))
    );
}
