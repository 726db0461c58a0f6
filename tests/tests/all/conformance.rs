//! The conformance suite of the store: the whole of it on every back end, and the part that can differ between guards
//! under every guard that must keep the books consistent.

use std::sync::Arc;

use bespeak::store::{
    FixedClock, Guard,
    conformance::{Enqueue, Subject},
};
use bespeak_tests::Books;

async fn open(books: Books, clock: Option<FixedClock>, guard: Guard) -> (Subject, Arc<Books>) {
    let store = books.open(clock.as_ref(), guard).await;
    store.migrate().await.expect("migrated");
    let other = books.open(clock.as_ref(), guard).await;
    let books = Arc::new(books);
    let place = books.clone();
    let enqueue: Enqueue = Box::new(move |delivery| {
        let place = place.clone();
        Box::pin(async move { place.enqueue(&delivery).await })
    });
    (Subject::new([store, other], clock, enqueue), books)
}

mod sqlite {
    use super::*;

    async fn open(clock: Option<FixedClock>) -> (Subject, Arc<Books>) {
        super::open(Books::sqlite(), clock, Guard::RowLock).await
    }

    bespeak::conformance_tests!(super::open);
}

mod mysql {
    use super::*;

    async fn open(clock: Option<FixedClock>) -> (Subject, Arc<Books>) {
        super::open(Books::mysql().await, clock, Guard::RowLock).await
    }

    bespeak::conformance_tests!(super::open);

    /// A module of tests under another guard: of what can differ between guards.
    macro_rules! guarded_by {
        ($module:ident, $guard:expr) => {
            mod $module {
                use super::*;

                async fn open(clock: Option<FixedClock>) -> (Subject, Arc<Books>) {
                    super::super::open(Books::mysql().await, clock, $guard).await
                }

                bespeak::guard_conformance_tests!(open);
            }
        };
    }

    guarded_by!(conditional, Guard::Conditional);
    guarded_by!(optimistic, Guard::Optimistic);
}
