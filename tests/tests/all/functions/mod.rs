//! The three Lambda functions, as processes that an emulated Runtime API invokes.

mod cargo_lambda;
mod consumer;
mod flow;
mod relay_cron;
mod reserve;

use bespeak_tests::Books;

/// The number of open transactions of the account that functions use.
async fn open_transactions(books: &Books) -> i64 {
    const OPEN: &str = "SELECT COUNT(*) FROM information_schema.innodb_trx t
        JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
        WHERE p.db = DATABASE() AND p.user = 'bespeak'";
    books.count(OPEN).await
}

/// The number of sessions of the account that functions use.
async fn sessions(books: &Books) -> i64 {
    books
        .count(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND user = 'bespeak'",
        )
        .await
}
