//! A server that was made read-only, such as the old primary after a switch-over. Its books may not be current, so no
//! command is answered from them, not even one that would change nothing.

use std::collections::BTreeSet;

use bespeak_services::Mysql;
use bespeak_tests::{Books, Client, Server, until};
use http::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};

use super::order;

/// The connections of the account under test to these books.
async fn sessions(books: &Books) -> BTreeSet<i64> {
    let sql =
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ? AND user = 'bespeak'";
    let rows = sqlx::query(sql).bind(books.name()).fetch_all(&mut books.root().await).await.expect("read");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn own_server() -> Mysql {
    Mysql::start_own(&[]).await.unwrap_or_else(|missing| panic!("{missing}"))
}

async fn set_read_only(books: &Books, value: u8) {
    let sql = format!("SET GLOBAL read_only = {value}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut books.root().await).await.expect("set");
}

/// The account has every right in its own database, and not the right to write on a read-only server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_answers_no_command_from_its_books() {
    let database = own_server().await;
    for strategy in ["lanes", "conditional", "optimistic", "pessimistic"] {
        let books = Books::on(&database).await;
        let settings = [
            ("BESPEAK_STRATEGY", strategy),
            ("BESPEAK_LANES", "1"),
            ("BESPEAK_WRITE_CONNECTIONS", "1"),
            ("BESPEAK_READ_CONNECTIONS", "1"),
        ];
        let server = Server::start(&books, &settings).await;
        // Given a resource that is sold out, and reservations in several states
        server.stock("sold-out", 1).await;
        server.stock("seat", 10).await;
        let committed = server.hold("committed", "sold-out").await;
        server.act("commit", &committed).await;
        let held = server.hold("held", "seat").await;
        let released = server.hold("released", "seat").await;
        server.act("release", &released).await;
        let before = sessions(&books).await;
        // When the server is made read-only
        set_read_only(&books, 1).await;
        let token = |token: &str| json!({"token": token}).to_string();
        let hold = |name: &str| order(&[name]).to_string();
        let total = |name: &str, total: u64| json!({"resourceId": name, "totalStock": total}).to_string();
        let one = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60}).to_string();
        let requests = [
            ("a refusal", "reserve", "new", hold("sold-out")),
            ("an unknown resource", "reserve", "new", hold("nothing")),
            ("a new hold", "reserve", "new", hold("seat")),
            ("a replay", "reserve", "held", one),
            ("a key that is used again", "reserve", "held", hold("sold-out")),
            ("a second commit", "commit", "", token(&committed)),
            ("a commit after a release", "commit", "", token(&released)),
            ("a second release", "release", "", token(&released)),
            ("a cancellation of a hold", "cancel", "", token(&held)),
            ("an unknown token", "release", "", token("01890a5d-ac96-774b-bcce-b302099a8057")),
            ("a definition that changes nothing", "resources", "", total("seat", 10)),
            ("a total below what is in use", "resources", "", total("sold-out", 0)),
        ];
        // Then every command is answered 503, at any time
        for (what, path, key, body) in &requests {
            let path = format!("/api/v1/{path}");
            let (status, problem) = server.request(Method::POST, &path, key, body).await;
            assert_eq!(
                (status, &problem["type"]),
                (503, &json!("unavailable")),
                "{strategy}: {what}: {problem}"
            );
        }
        // A connection that found the server read-only is not used again
        let kept: Vec<i64> = sessions(&books).await.intersection(&before).copied().collect();
        assert!(kept.len() < before.len().max(2), "{strategy}: {kept:?} of {before:?} are still open");
        set_read_only(&books, 0).await;
        until("commands are served again", async || {
            server.request(Method::POST, "/api/v1/commit", "", &token(&held)).await.0 == 200
        })
        .await;
        assert_eq!(server.request(Method::POST, "/api/v1/reserve", "new", &hold("sold-out")).await.0, 409);
        assert_eq!(server.stop().await, 0);
    }
}
