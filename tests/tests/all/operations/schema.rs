//! A schema of a newer version: it is used as it is, unless its floor is above this version.

use bespeak_tests::{Books, Client, Server, bespeak, each_store, program};

each_store!(a_newer_schema_is_used_as_it_is, a_schema_floor_above_this_version_stops_every_program);

/// A migration that only a later version knows, and what it added.
async fn migrate_to_the_future(books: &Books) {
    let (text, checksum) = if books.is_file() { ("TEXT", "x'00'") } else { ("VARCHAR(10)", "0x00") };
    books
        .tamper(&format!(
            "ALTER TABLE resources ADD COLUMN future {text} NULL;
            ALTER TABLE reservations ADD COLUMN future {text} NULL;
            ALTER TABLE outbox ADD COLUMN future {text} NULL;
            INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
                VALUES (9999, 'future', CURRENT_TIMESTAMP, TRUE, {checksum}, 0)"
        ))
        .await;
}

async fn a_newer_schema_is_used_as_it_is(books: Books) {
    let url = books.url();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 2).await;
    let token = server.hold("before", "seat").await;
    // Given a later version that migrated while this one runs
    migrate_to_the_future(&books).await;
    server.act("commit", &token).await;
    assert_eq!(server.stop().await, 0);
    // Then this version starts again, and so do its commands
    let server = Server::start(&books, &[]).await;
    server.hold("after", "seat").await;
    for args in [&["migrate"][..], &["verify"], &["outbox", "list"], &["dlq", "list"]] {
        let output = bespeak(args, &[("BESPEAK_DATABASE_URL", &url)]).await;
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
    }
    assert_eq!(server.stop().await, 0);
    assert_eq!(books.count("SELECT COUNT(*) FROM _sqlx_migrations WHERE version = 9999").await, 1);
}

async fn a_schema_floor_above_this_version_stops_every_program(books: Books) {
    let url = books.url();
    let environment = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_LISTEN", "127.0.0.1:0")];
    assert_eq!(bespeak(&["migrate"], &environment).await.code, 0);
    books.tamper("UPDATE schema_floor SET version = '99.1.0'").await;
    let reason = format!("needs bespeak 99.1.0 or later, and this is bespeak {}", env!("CARGO_PKG_VERSION"));
    for args in [&["serve"][..], &["migrate"], &["verify"], &["outbox", "list"], &["dlq", "list"]] {
        let output = bespeak(args, &environment).await;
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.err.contains(&reason), "{args:?}: {output:?}");
        let lines: Vec<_> = output.err.lines().filter(|line| line.starts_with("bespeak: ")).collect();
        assert_eq!(lines.len(), 1, "{args:?}: {output:?}");
    }
    if !books.is_file() {
        for name in ["reserve", "relay-cron", "consumer"] {
            let runtime =
                [environment[0], ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9"), ("BESPEAK_LOG", "info")];
            let output = program(name, &runtime).await;
            assert!(output.code != 0 && output.err.contains("99.1.0"), "{name}: {output:?}");
        }
    }
    // A floor that this version does not understand is above it
    books.tamper("UPDATE schema_floor SET version = 'later'").await;
    assert_eq!(bespeak(&["migrate"], &environment).await.code, 2);
    books.tamper("UPDATE schema_floor SET version = '0.0.1'").await;
    assert_eq!(bespeak(&["migrate"], &environment).await.code, 0);
}
