//! The accounts of the guide: what each may do is enough for what it is for.

use bespeak_tests::{Books, Server, bespeak};

const GUIDE: &str = include_str!("../../../../docs/guides/mysql.md");

/// Given the accounts of the guide, as its SQL makes them, then one migrates, one serves and one audits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_of_the_guide_have_sufficient_grants() {
    let books = Books::mysql().await;
    let name = books.name().to_owned();
    let (_, sql) = GUIDE.split_once("```sql\n").expect("the guide has SQL");
    let (sql, _) = sql.split_once("```").expect("which ends");
    let (created, sql) = sql.split_once(';').expect("statements");
    assert!(created.starts_with("CREATE DATABASE bespeak "), "{created}");
    // In the test's database, under names of its own, without TLS, which this server may not have
    let sql = sql
        .replace("bespeak._", &format!("{name}._"))
        .replace("bespeak.*", &format!("{name}.*"))
        .replace("'bespeak", &format!("'{name}"))
        .replace("'...'", "'secret'")
        .replace(" REQUIRE SSL", "");
    assert!(sql.matches("GRANT").count() >= 4 && !sql.contains("bespeak_owner'@"), "{sql}");
    for host in ["%", "localhost"] {
        books.tamper(&sql.replace("'%'", &format!("'{host}'"))).await;
    }
    let address = books.address();
    let url = |user: &str| format!("mysql://{user}:secret@{address}/{name}");
    let (owner, serves, audits) = (url(&format!("{name}_owner")), url(&name), url(&format!("{name}_audit")));
    let migrated = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &owner)]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    let server = Server::start(&books, &[("BESPEAK_DATABASE_URL", &serves)]).await;
    server.cars("car", 2).await;
    let token = server.hold("k", "car").await;
    server.act("commit", &token).await;
    let audited = bespeak(&["verify"], &[("BESPEAK_DATABASE_URL", &audits)]).await;
    assert_eq!(audited.code, 0, "{audited:?}");
    // And the one that serves changes no table
    let refused = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &audits)]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(server.stop().await, 0);
    for user in ["", "_owner", "_audit"] {
        for host in ["%", "localhost"] {
            books.tamper(&format!("DROP USER '{name}{user}'@'{host}'")).await;
        }
    }
}
