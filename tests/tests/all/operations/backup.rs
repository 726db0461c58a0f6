//! Copies of an SQLite database: on demand while it is served, and automatic ones before a migration.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use bespeak_tests::{Books, Client, Server, bespeak, previous_bespeak};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// The automatic copies, the oldest first.
fn automatic_copies(books: &Books) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(books.path().parent().expect("a folder")).expect("listed");
    let files = folder.map(|entry| entry.expect("an entry").path());
    let mut copies: Vec<_> =
        files.filter(|path| path.to_string_lossy().contains(".before-migration-")).collect();
    copies.sort();
    copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_while_serving_has_everything_acknowledged_before_it() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 1_000).await;
    let mut tokens = Vec::new();
    for n in 0..20 {
        tokens.push(server.hold(&format!("before-{n}"), "seat").await);
    }
    let copied = Books::sqlite();
    let (from, to) = (books.url(), copied.path().display().to_string());
    let environment = [("BESPEAK_DATABASE_URL", from.as_str())];
    // Writers go on meanwhile
    let writing = async {
        for n in 0..50 {
            server.hold(&format!("during-{n}"), "seat").await;
        }
    };
    let arguments = ["backup", "--to", to.as_str(), "--json"];
    let (output, ()) = tokio::join!(bespeak(&arguments, &environment), writing);
    assert_eq!(output.code, 0, "{output:?}");
    let report = output.json();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    assert!(
        report["bytes"].as_u64().expect("a number") > 10_000 && report["reservations"].as_u64() >= Some(20)
    );
    assert_eq!(report["file"], to.as_str());
    // Only the owner may read the copy, the original, and its WAL
    assert_eq!(mode(&copied.path()), 0o600);
    assert_eq!(mode(&books.path()), 0o600);
    assert_eq!(mode(&PathBuf::from(format!("{}-wal", books.path().display()))), 0o600);
    assert!(!PathBuf::from(format!("{to}.partial")).exists());
    // A copy is never overwritten
    let again = bespeak(&["backup", "--to", &to], &environment).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("a file of this name exists"), "{again:?}");
    assert_eq!(server.stop().await, 0);
    // And a server on the copy finds every reservation
    let restored = Server::start(&copied, &[]).await;
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(&restored.hold(&format!("before-{n}"), "seat").await, token);
    }
    restored.hold("after", "seat").await;
    assert_eq!(restored.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_books_are_copied_and_reported() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    assert_eq!(server.stop().await, 0);
    books.expect_damage();
    books.tamper("UPDATE resources SET available = 3").await;
    let (from, to) = (books.url(), books.path().with_extension("copy"));
    let output =
        bespeak(&["backup", "--to", &to.display().to_string()], &[("BESPEAK_DATABASE_URL", &from)]).await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.out.contains("1 finding"), "{output:?}");
    assert!(to.exists());
}

#[tokio::test]
async fn other_databases_and_missing_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("copy.db").display().to_string();
    let missing = format!("sqlite://{}", folder.path().join("none.db").display());
    for (url, code, reason) in
        [("mysql://u:p@127.0.0.1:1/books", 2, "tools of your MySQL"), (&missing, 1, "cannot be copied")]
    {
        let output = bespeak(&["backup", "--to", &to], &[("BESPEAK_DATABASE_URL", url)]).await;
        assert_eq!(output.code, code, "{output:?}");
        assert!(output.err.contains(reason), "{output:?}");
    }
    assert!(std::fs::read_dir(folder.path()).expect("listed").next().is_none(), "nothing is left behind");
}

/// The way back after an upgrade: the automatic copy works with the program of the previous release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_copied_before_it_is_migrated_and_the_copy_is_the_way_back() {
    let books = Books::sqlite();
    let old = Server::start_previous(&books).await;
    old.stock("seat", 5).await;
    let token = old.hold("before", "seat").await;
    assert_eq!(old.stop().await, 0);
    // When this version starts
    let new = Server::start(&books, &[]).await;
    new.hold("after", "seat").await;
    assert_eq!(new.stop().await, 0);
    // Then there is one copy, which only the owner may read, and a start without a migration makes none
    let copies = automatic_copies(&books);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(mode(&copies[0]), 0o600);
    let new = Server::start(&books, &[]).await;
    assert_eq!(new.stop().await, 0);
    assert_eq!(automatic_copies(&books), copies);
    // And the previous release serves from it
    let back = Books::sqlite();
    // The audit of this version cannot read the schema of an earlier one.
    back.expect_damage();
    std::fs::copy(&copies[0], back.path()).expect("restored");
    let migrated = previous_bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &back.url())]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    let old = Server::start_previous(&back).await;
    assert_eq!(old.hold("before", "seat").await, token);
    assert_eq!(old.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_number_of_automatic_copies_is_kept() {
    let books = Books::sqlite();
    let url = books.url();
    let migrate = async |kept: &str| {
        let environment = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_MIGRATION_BACKUPS", kept)];
        let output = bespeak(&["migrate"], &environment).await;
        assert_eq!(output.code, 0, "{output:?}");
    };
    // A new file needs no copy
    migrate("2").await;
    assert!(automatic_copies(&books).is_empty());
    let undo =
        "DROP TABLE schema_floor; DROP TABLE verifications; DELETE FROM _sqlx_migrations WHERE version = 6";
    books.tamper(undo).await;
    migrate("0").await;
    assert!(automatic_copies(&books).is_empty(), "switched off");
    let mut newest = Vec::new();
    for _ in 0..4 {
        books.tamper(undo).await;
        migrate("2").await;
        newest.extend(automatic_copies(&books).pop());
    }
    assert_eq!(automatic_copies(&books), newest[2..], "the oldest are removed");
}
