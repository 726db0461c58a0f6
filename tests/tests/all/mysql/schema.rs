//! Migrations, and settings of sessions that neither the URL nor the server can change.

use bespeak::store::Guard;
use bespeak_tests::{Api, Books, Client};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_and_interrupted_migrations_complete() {
    let books = Books::mysql().await;
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let store = books.open(None, Guard::RowLock).await;
        tasks.push(tokio::spawn(async move { store.migrate().await }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("migrated");
    }
    books.tamper("UPDATE _sqlx_migrations SET success = FALSE; DROP TABLE retention").await;
    books.open(None, Guard::RowLock).await.migrate().await.expect("migrated");
    books.assert_consistent().await;
}

/// Literals are escaped for UTF-8 and times are in UTC, whatever the URL's parameters are, and no text of a customer
/// can end its literal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn url_parameters_do_not_change_session_settings() {
    for parameters in ["?charset=gbk", "?timezone=%2B05:00", "?charset=latin1&collation=latin1_bin"] {
        let books = Books::mysql().await;
        let url = format!("{}{parameters}", books.url());
        let api = Api::with(books, &[("BESPEAK_DATABASE_URL", &url)], None).await;
        api.stock("seat", 10).await;
        for (n, text) in
            ["\u{4e2d}\\", "' OR 1 -- ", "\\' OR 1 -- ", "\u{1f3ab} ''\\\\"].into_iter().enumerate()
        {
            let items = json!([{"resourceId": "seat", "quantity": 1}]);
            let body = json!({"items": items, "holder": text, "metadata": {"note": text}});
            let held = api.reserve(&format!("{n}' -- "), &body).await;
            assert_eq!(held.status, 200, "{parameters} {text}: {}", held.text);
            let token = held.json()["token"].as_str().expect("a token").to_owned();
            let shown = api.get(&format!("/api/v1/reservations/{token}")).await.json();
            assert_eq!(
                (&shown["holder"], &shown["metadata"]["note"]),
                (&json!(text), &json!(text)),
                "{parameters}"
            );
        }
        let shown = api.get("/api/v1/resources/seat").await.json();
        let at: jiff::Timestamp = shown["updatedAt"].as_str().expect("a time").parse().expect("a time");
        assert!(at.duration_since(jiff::Timestamp::now()).abs().as_secs() < 60, "{parameters}: {at}");
        api.books.assert_consistent().await;
    }
}
