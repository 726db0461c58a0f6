//! The conformance suite, on every back end, under every guard that must keep the books in order.

use bespeak::store::{FixedClock, Guard, conformance::Subject};
use bespeak_tests::Books;

async fn open(books: Books, clock: Option<FixedClock>, guard: Guard) -> (Subject, Books) {
    let store = books.open(clock.as_ref(), guard).await;
    store.migrate().await.expect("migrated");
    let other = books.open(clock.as_ref(), guard).await;
    (Subject { store, other, clock }, books)
}

mod sqlite {
    use super::*;

    async fn open(clock: Option<FixedClock>) -> (Subject, Books) {
        super::open(Books::sqlite(), clock, Guard::RowLock).await
    }

    bespeak::conformance_tests!(super::open);
}

/// A module of tests on MySQL, under a guard.
macro_rules! mysql {
    ($module:ident, $guard:expr) => {
        mod $module {
            use super::*;

            async fn open(clock: Option<FixedClock>) -> (Subject, Books) {
                super::open(Books::mysql().await, clock, $guard).await
            }

            bespeak::conformance_tests!(super::open);
        }
    };
}

mysql!(mysql_row_lock, Guard::RowLock);
mysql!(mysql_conditional, Guard::Conditional);
mysql!(mysql_optimistic, Guard::Optimistic);
