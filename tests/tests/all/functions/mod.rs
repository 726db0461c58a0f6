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

/// The reservation that the event in the samples of the consumer is about.
const SAMPLE: &str = "019aa0c1-5f00-7b6a-9c3d-2e4f60718293";

/// Enters committed reservations of a resource with SmartKeys into the books, each of one unit and made so long ago
/// that its events were purged.
async fn commit(books: &Books, tokens: Vec<String>) {
    let taken = tokens.len();
    books.tamper("UPDATE retention SET kept_since = 10 WHERE what = 'outbox'").await;
    books
        .tamper(&format!(
            "INSERT INTO resources (id, total, available, version, fulfilment, created_at, updated_at)
            VALUES ('car', 10000, 10000 - {taken}, 1, 'SMART_KEY', 1, 1)
            ON DUPLICATE KEY UPDATE available = available - {taken}"
        ))
        .await;
    let rows: Vec<String> = tokens
        .iter()
        .map(|token| {
            format!(
                "(UNHEX(REPLACE('{token}', '-', '')), 0, 'car', 1, 'COMMITTED', 2, 1, 2, 1, '{token}',
                0x00000000000000000000000000000000)"
            )
        })
        .collect();
    books
        .tamper(&format!(
            "INSERT INTO reservations (token, item_no, resource_id, quantity, status, version, created_at, expires_at,
            updated_at, idempotency_key, fingerprint) VALUES {}",
            rows.join(", ")
        ))
        .await;
}
