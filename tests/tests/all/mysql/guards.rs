//! Each guard prevents overselling, and its absence does not.

use bespeak::store::{CommitMode, Guard};
use bespeak_tests::{Books, bespeak};

use super::{hold, stock};

/// The number of oversold units when 64 callers want 10, through two handles on one database.
async fn oversold(guard: Guard) -> usize {
    let books = Books::mysql().await;
    if guard == Guard::Unguarded {
        books.expect_damage();
    }
    let stores = [books.open(None, guard).await, books.open(None, guard).await];
    stores[0].migrate().await.expect("migrated");
    stock(&*stores[0], "seat", 10).await;
    let mut tasks = Vec::new();
    for n in 0..64_usize {
        let store = stores[n % 2].clone();
        tasks.push(tokio::spawn(async move {
            let executed = store.execute(&[hold(&format!("{n}"), &["seat"])], CommitMode::Commit).await;
            // A caller that loses ten times in a row gives up.
            executed.is_ok_and(|executed| executed.outcomes[0].is_ok())
        }));
    }
    let mut accepted = 0;
    for task in tasks {
        accepted += usize::from(task.await.expect("no panic"));
    }
    if matches!(guard, Guard::RowLock | Guard::Conditional) {
        assert_eq!(accepted, 10, "{guard:?}: all ten units must be sold");
    }
    let clean = books.audit().await.is_clean();
    assert_eq!(clean, accepted <= 10, "{accepted} accepted, and the audit says clean: {clean}");
    accepted.saturating_sub(10)
}

/// The load oversells without a guard, which proves that the guards prevent it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_unguarded_store_oversells() {
    for guard in [Guard::RowLock, Guard::Conditional, Guard::Optimistic] {
        assert_eq!(oversold(guard).await, 0, "{guard:?}");
    }
    assert!(oversold(Guard::Unguarded).await > 0);
}

#[tokio::test]
async fn serve_refuses_unguarded_and_unavailable_strategies() {
    let url = "mysql://bespeak@127.0.0.1:9/none";
    for (strategy, database) in [("unguarded", url), ("conditional", "sqlite://x.db"), ("redlock", url)] {
        let settings = [("BESPEAK_STRATEGY", strategy), ("BESPEAK_DATABASE_URL", database)];
        let refused = bespeak(&["serve"], &settings).await;
        assert_eq!(refused.code, 2);
        assert!(
            refused.err.contains("BESPEAK_STRATEGY") && refused.err.contains("must be"),
            "{}",
            refused.err
        );
    }
}
