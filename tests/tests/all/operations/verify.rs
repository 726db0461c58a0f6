//! Audits: their recorded result, and the exit code if there is no database.

use bespeak_tests::{Api, Books, Client, bespeak, each_store};

each_store!(the_result_of_a_recorded_audit_is_a_metric);

fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn the_result_of_a_recorded_audit_is_a_metric(books: Books) {
    let (findings, age) = ("bespeak_verify_findings", "bespeak_verify_age_seconds");
    let api = Api::start(books).await;
    api.stock("seat", 5).await;
    let environment = [("BESPEAK_DATABASE_URL", api.books.url())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    // An audit alone leaves no trace
    assert_eq!(bespeak(&["verify"], &environment).await.code, 0);
    assert_eq!(api.books.count("SELECT COUNT(*) FROM verifications").await, 0);
    api.books.expect_damage();
    api.books.tamper("UPDATE resources SET available = 3").await;
    let recorded = bespeak(&["verify", "--record"], &environment).await;
    assert_eq!(recorded.code, 1, "{recorded:?}");
    let text = api.get("/metrics").await.text;
    assert_eq!(metric(&text, findings), Some(1.0), "{text}");
    assert!(metric(&text, age).is_some_and(|age| (0.0..600.0).contains(&age)), "{text}");
    // A later result takes its place
    api.books.tamper("UPDATE resources SET available = 5").await;
    assert_eq!(bespeak(&["verify", "--record"], &environment).await.code, 0);
    assert_eq!(api.books.integers("SELECT findings FROM verifications").await, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_exits_with_2_if_the_database_cannot_be_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = format!("sqlite://{}", folder.path().join("none/books.db").display());
    for url in ["mysql://u:p@127.0.0.1:1/books", &missing] {
        let environment = [("BESPEAK_DATABASE_URL", url), ("BESPEAK_LISTEN", "127.0.0.1:0")];
        for args in [
            &["verify"][..],
            &["verify", "--events"],
            &["verify", "--record"],
            &["migrate"],
            &["outbox", "list"],
            &["dlq", "list"],
            &["serve"],
        ] {
            let output = bespeak(args, &environment).await;
            assert_eq!(output.code, 2, "{args:?}: {output:?}");
            assert!(output.err.contains("cannot be opened"), "{args:?}: {output:?}");
        }
    }
}
