//! The accounts of the guide: the grants of each are sufficient for its task.

use bespeak_tests::{Books, Client, Server, bespeak};
use sqlx::{Connection, MySqlConnection};

const GUIDE: &str = include_str!("../../../../docs/guides/mysql.md");

/// The SQL of the guide creates three accounts: one migrates, one serves and one audits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_of_the_guide_have_sufficient_grants() {
    let books = Books::mysql().await;
    let name = books.name().to_owned();
    let blocks: Vec<_> =
        GUIDE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [accounts, audit] = blocks[..] else { panic!("the guide has two blocks of SQL, and not {blocks:?}") };
    let (created, accounts) = accounts.split_once(';').expect("statements");
    assert!(created.starts_with("CREATE DATABASE bespeak "), "{created}");
    // In the test's database, with names of its own, and without TLS, which this server may lack
    let adapt = |sql: &str, host: &str| {
        sql.replace("bespeak.", &format!("{name}."))
            .replace("'bespeak", &format!("'{name}"))
            .replace("'...'", "'secret'")
            .replace(" REQUIRE SSL", "")
            .replace("'%'", &format!("'{host}'"))
    };
    assert!(accounts.matches("GRANT").count() >= 3 && audit.matches("GRANT").count() >= 9, "{blocks:?}");
    assert!(!adapt(accounts, "%").contains("bespeak_owner'@"), "an account outside the test");
    for host in ["%", "localhost"] {
        books.tamper(&adapt(accounts, host)).await;
    }
    let address = books.address();
    let url = |user: &str| format!("mysql://{user}:secret@{address}/{name}");
    let (owner, serves, audits) = (url(&format!("{name}_owner")), url(&name), url(&format!("{name}_audit")));
    let migrated = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &owner)]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    for host in ["%", "localhost"] {
        books.tamper(&adapt(audit, host)).await;
    }
    let server = Server::start(&books, &[("BESPEAK_DATABASE_URL", &serves)]).await;
    server.cars("car", 2).await;
    let token = server.hold("k", "car").await;
    server.act("commit", &token).await;
    let audited = bespeak(&["verify"], &[("BESPEAK_DATABASE_URL", &audits)]).await;
    assert_eq!(audited.code, 0, "{audited:?}");
    // The account that audits cannot migrate
    let refused = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &audits)]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(server.stop().await, 0);
    // And the one that audits reads the event pipeline, and no secret
    let audited = bespeak(&["verify", "--events", "--record"], &[("BESPEAK_DATABASE_URL", &audits)]).await;
    assert_eq!(audited.code, 0, "{audited:?}");
    assert_eq!(books.count("SELECT findings FROM verifications").await, 0);
    let mut auditor = MySqlConnection::connect(&audits).await.expect("the account may connect");
    for secret in [
        "SELECT secret FROM webhook_endpoints",
        "SELECT headers FROM webhook_endpoints",
        "SELECT code FROM smart_keys",
        "SELECT idempotency_key FROM reservations",
        "SELECT holder FROM reservations",
        "SELECT payload FROM webhook_deliveries",
    ] {
        let denied = sqlx::raw_sql(secret).execute(&mut auditor).await;
        assert!(denied.is_err_and(|error| error.to_string().contains("denied")), "{secret}");
    }
    auditor.close().await.expect("the connection closes");
    for user in ["", "_owner", "_audit"] {
        for host in ["%", "localhost"] {
            books.tamper(&format!("DROP USER '{name}{user}'@'{host}'")).await;
        }
    }
}
