//! The conformance suite, on every back end.

mod sqlite {
    use bespeak::store::{
        Clock, FixedClock, Store,
        conformance::Subject,
        sqlite::{SqliteOptions, SqliteStore},
    };
    use std::sync::Arc;
    use tempfile::TempDir;

    async fn open(clock: Option<FixedClock>) -> (Subject, TempDir) {
        let folder = TempDir::new().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("books.db").display());
        let options = SqliteOptions {
            clock: clock.clone().map_or(Clock::Own, Clock::Fixed),
            ..SqliteOptions::default()
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&url, options.clone()).await.expect("opened"));
        store.migrate().await.expect("migrated");
        let other: Arc<dyn Store> = Arc::new(SqliteStore::open(&url, options).await.expect("opened"));
        (Subject { store, other, clock }, folder)
    }

    bespeak::conformance_tests!(super::open);
}
