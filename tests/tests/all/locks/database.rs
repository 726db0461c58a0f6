//! Locks as leases in the database: the conformance suite, and a row that was deleted by hand.

use std::{sync::Arc, time::Duration};

use bespeak::{
    lock::{DatabaseLock, DistributedLock, LockName, conformance::Handles},
    store::{Database, Guard},
};
use bespeak_tests::{Books, each_store};

async fn handle(books: &Books) -> Arc<dyn DistributedLock> {
    let store: Arc<dyn Database> = books.open(None, Guard::RowLock).await;
    store.migrate().await.expect("migrated");
    Arc::new(DatabaseLock::new(store))
}

async fn handles(books: Books) -> (Handles, Books) {
    ([handle(&books).await, handle(&books).await], books)
}

mod sqlite {
    use super::*;

    async fn open() -> (Handles, Books) {
        handles(Books::sqlite()).await
    }

    bespeak::lock_conformance_tests!(open);
}

mod mysql {
    use super::*;

    async fn open() -> (Handles, Books) {
        handles(Books::mysql().await).await
    }

    bespeak::lock_conformance_tests!(open);
}

each_store!(deleting_a_lease_row_ends_the_lease_and_numbers_still_grow);

async fn deleting_a_lease_row_ends_the_lease_and_numbers_still_grow(books: Books) {
    let ([one, other], books) = handles(books).await;
    let (seat, long) = (LockName::new("seat").expect("a name"), Duration::from_secs(600));
    let mut lost = one.try_acquire(&seat, long).await.expect("answered").expect("free");
    books.tamper("DELETE FROM leases WHERE name = 'lock/seat'").await;
    let next = other.try_acquire(&seat, long).await.expect("answered").expect("free");
    assert!(next.fencing() > lost.fencing(), "{next:?} after {lost:?}");
    // The first holder learns that it lost its lock, and cannot release that of the next holder.
    assert!(!one.extend(&mut lost, long).await.expect("answered"));
    assert!(!one.release(lost, Duration::ZERO).await.expect("answered"));
    assert!(one.try_acquire(&seat, long).await.expect("answered").is_none());
    assert!(other.release(next, Duration::ZERO).await.expect("answered"));
}
