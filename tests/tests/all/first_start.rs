//! Several servers that start at once on one SQLite file: on a new one, and on one of an older version.

use std::path::Path;

use bespeak_tests::{Books, Client, Server};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

/// Rounds of each kind: which process is first is a matter of chance.
const ROUNDS: usize = 4;

/// Starts three servers at once; all of them must come up, and each must serve.
async fn all_come_up(books: &Books) {
    let [first, second, third] = std::array::from_fn(|_| Server::start(books, &[]));
    let (first, second, third) = tokio::join!(first, second, third);
    for (n, server) in [first, second, third].into_iter().enumerate() {
        server.stock("seat", 10).await;
        server.hold(&format!("{n}"), "seat").await;
        assert_eq!(server.stop().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_on_a_new_file_all_come_up() {
    for _ in 0..ROUNDS {
        all_come_up(&Books::sqlite()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_on_an_older_file_all_come_up() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let migrator = sqlx::migrate::Migrator::new(folder).await.expect("the migrations");
    for _ in 0..ROUNDS {
        let books = Books::sqlite();
        let options = SqliteConnectOptions::new().filename(books.path()).create_if_missing(true);
        let mut connection = options.connect().await.expect("a file");
        migrator.run_to(2, &mut connection).await.expect("the schema of an older version");
        connection.close().await.expect("closed");
        all_come_up(&books).await;
    }
}
