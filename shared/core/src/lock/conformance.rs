//! The tests that every distributed lock must pass: plain functions over two handles, as two processes would have them.
//!
//! Waits are as long as the leases that they wait for. Failures panic, because these are tests.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite of tests that other crates call"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{DistributedLock, Grant, LockError, LockName, Locks};

/// Two handles on the same locks.
pub type Handles = [Arc<dyn DistributedLock>; 2];

/// Longer than any of these tests, on a machine that is many times slower.
const LONG: Duration = Duration::from_secs(600);
/// Short enough to wait for its end.
const SHORT: Duration = Duration::from_millis(300);
/// The time-out for things that must happen.
const TIMEOUT: Duration = Duration::from_secs(60);

fn name(text: &str) -> LockName {
    LockName::new(text).expect("a name")
}

async fn taken(lock: &Arc<dyn DistributedLock>, name: &LockName, lease: Duration) -> Grant {
    lock.try_acquire(name, lease).await.expect("answered").expect("free")
}

async fn is_free(lock: &Arc<dyn DistributedLock>, name: &LockName) -> bool {
    match lock.try_acquire(name, LONG).await.expect("answered") {
        Some(grant) => lock.release(grant, Duration::ZERO).await.expect("answered"),
        None => false,
    }
}

/// Waits until a name is free, and returns how long that took.
async fn free_after(lock: &Arc<dyn DistributedLock>, name: &LockName) -> Duration {
    let began = Instant::now();
    while !is_free(lock, name).await {
        assert!(began.elapsed() < TIMEOUT, "{name} is never free");
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// While a name is held, neither another process nor the holder itself can take it; other names are free.
pub async fn each_name_has_one_holder([one, other]: Handles) {
    let (seat, room) = (name("seat"), name("room"));
    let grant = taken(&one, &seat, LONG).await;
    assert!(grant.is_valid() && grant.name() == &seat);
    for lock in [&one, &other] {
        assert!(lock.try_acquire(&seat, LONG).await.expect("answered").is_none());
    }
    assert!(is_free(&other, &room).await);
    assert!(one.release(grant, Duration::ZERO).await.expect("answered"));
    assert!(is_free(&other, &seat).await);
}

/// Names of the greatest length that differ only in their last character are different names.
pub async fn long_names_are_distinguished([one, other]: Handles) {
    let long = |end: char| name(&format!("{}{end}", "x".repeat(LockName::LENGTH_MAX - 1)));
    let grant = taken(&one, &long('a'), LONG).await;
    assert!(!is_free(&other, &long('a')).await);
    assert!(is_free(&other, &long('b')).await);
    assert!(is_free(&other, &name("x")).await);
    assert!(one.release(grant, Duration::ZERO).await.expect("answered"));
    for wrong in ["", "seat 1", "sèat", &"x".repeat(LockName::LENGTH_MAX + 1)] {
        assert!(LockName::new(wrong).is_err(), "{wrong}");
    }
}

/// A dead holder blocks others until the end of its lease, and no longer.
pub async fn a_lease_expires_and_not_early([one, other]: Handles) {
    let seat = name("seat");
    let began = Instant::now();
    let grant = taken(&one, &seat, SHORT).await;
    free_after(&other, &seat).await;
    // Clocks may differ in speed, but not by a tenth on one machine.
    assert!(began.elapsed() >= SHORT * 9 / 10, "{:?}", began.elapsed());
    assert!(!grant.is_valid());
}

/// A holder that returns after its lease can neither extend nor release the lock of the next holder.
pub async fn a_late_holder_cannot_release_the_next_holder_s_lock([one, other]: Handles) {
    let seat = name("seat");
    let mut late = taken(&one, &seat, SHORT).await;
    let next = loop {
        if let Some(next) = other.try_acquire(&seat, LONG).await.expect("answered") {
            break next;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert!(next.fencing() > late.fencing());
    assert!(!one.extend(&mut late, LONG).await.expect("answered"));
    assert!(!late.is_valid());
    assert!(!one.release(late, Duration::ZERO).await.expect("answered"));
    assert!(!is_free(&one, &seat).await, "the next holder still holds it");
    assert!(other.release(next, Duration::ZERO).await.expect("answered"));
}

/// An expired lease is not revived, even if no other holder took the lock.
pub async fn an_expired_lock_is_not_extended([one, other]: Handles) {
    let seat = name("seat");
    let mut grant = taken(&one, &seat, SHORT).await;
    free_after(&other, &seat).await;
    assert!(!one.extend(&mut grant, LONG).await.expect("answered"));
}

/// An extended lease lasts from the time of the extension.
pub async fn an_extended_lock_is_still_held([one, other]: Handles) {
    let seat = name("seat");
    let mut grant = taken(&one, &seat, SHORT * 10).await;
    assert!(one.extend(&mut grant, LONG).await.expect("answered"));
    assert!(grant.is_valid());
    sleep(SHORT * 11).await;
    assert!(grant.is_valid() && !is_free(&other, &seat).await);
    assert!(one.release(grant, Duration::ZERO).await.expect("answered"));
}

/// A lock that is released early becomes free when it was held for the minimum time, and not before.
pub async fn a_lock_is_held_for_at_least_the_minimum_time([one, other]: Handles) {
    let seat = name("seat");
    let began = Instant::now();
    let grant = taken(&one, &seat, LONG).await;
    assert!(one.release(grant, SHORT).await.expect("answered"));
    free_after(&other, &seat).await;
    assert!(began.elapsed() >= SHORT * 9 / 10, "{:?}", began.elapsed());
}

/// Three hundred contenders for one name: there are never two holders, and the fencing numbers grow.
pub async fn contenders_hold_one_at_a_time_and_numbers_grow(handles: Handles) {
    const CONTENDERS: usize = 300;
    let held = Arc::new(AtomicBool::new(false));
    let last = Arc::new(AtomicU64::new(0));
    let locks = handles.map(|lock| Arc::new(Locks::new(lock, LONG, LONG)));
    // As many at once as a server has connections; the others follow.
    let places = Arc::new(tokio::sync::Semaphore::new(12));
    let contend = |n: usize| {
        let (locks, held, last) = (locks[n % 2].clone(), held.clone(), last.clone());
        let places = places.clone();
        tokio::spawn(async move {
            let _place = places.acquire().await.expect("open");
            let grants = locks.acquire(vec![name("seat")]).await.expect("a turn");
            let fencing = grants.grants()[0].fencing();
            assert!(!held.swap(true, Ordering::SeqCst), "two holders");
            tokio::task::yield_now().await;
            assert!(
                last.swap(fencing, Ordering::SeqCst) < fencing,
                "{fencing} is no higher than an earlier number"
            );
            assert!(held.swap(false, Ordering::SeqCst));
            grants.release().await;
        })
    };
    let contenders: Vec<_> = (0..CONTENDERS).map(contend).collect();
    for contender in contenders {
        contender.await.expect("no panic");
    }
    let [one, other] = locks.map(|locks| locks.counts());
    assert_eq!((one.attempts + other.attempts, one.lost + other.lost), (CONTENDERS as u64, 0));
    assert!(one.waited + other.waited > 0, "no contender had to wait");
}

/// Several locks are taken in one order, whatever the order of the request, and all or none.
pub async fn several_locks_are_taken_in_order_and_all_or_none([one, other]: Handles) {
    let [a, b] = ["a", "b"].map(name);
    let blocked = taken(&one, &b, LONG).await;
    let locks = Locks::new(other.clone(), Duration::from_millis(50), LONG);
    let refused = locks.acquire(vec![b.clone(), a.clone(), b.clone()]).await.err().expect("refused");
    assert!(matches!(refused, LockError::TimedOut { name, .. } if name == b));
    assert!(is_free(&one, &a).await, "the first lock was released");
    assert_eq!((locks.counts().waited, locks.counts().timed_out), (1, 1));
    assert!(one.release(blocked, Duration::ZERO).await.expect("answered"));
    let mut held = locks.acquire(vec![b, a]).await.expect("free");
    assert_eq!(held.grants().iter().map(|grant| grant.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(held.kept_while(async { 7 }).await, 7);
    held.release().await;
}

/// Work that takes longer than a lease keeps its locks while its process runs.
pub async fn locks_are_renewed_while_work_runs([one, other]: Handles) {
    let seat = name("seat");
    let lease = SHORT * 10;
    let locks = Locks::new(one, Duration::ZERO, lease);
    let mut held = locks.acquire(vec![seat.clone()]).await.expect("free");
    let free = held.kept_while(async {
        sleep(lease * 3 / 2).await;
        is_free(&other, &seat).await
    });
    assert!(!free.await);
    held.release().await;
    assert_eq!(locks.counts().lost, 0);
    assert!(is_free(&other, &seat).await);
}

/// Makes a test of each function. `$open` returns the handles, and a value that must outlive them.
#[macro_export]
macro_rules! lock_conformance_tests {
    ($open:path) => {
        $crate::lock_conformance_tests!(
            $open,
            each_name_has_one_holder,
            long_names_are_distinguished,
            a_lease_expires_and_not_early,
            a_late_holder_cannot_release_the_next_holder_s_lock,
            an_expired_lock_is_not_extended,
            an_extended_lock_is_still_held,
            a_lock_is_held_for_at_least_the_minimum_time,
            contenders_hold_one_at_a_time_and_numbers_grow,
            several_locks_are_taken_in_order_and_all_or_none,
            locks_are_renewed_while_work_runs,
        );
    };
    ($open:path, $($test:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (handles, _kept) = $open().await;
            $crate::lock::conformance::$test(handles).await;
        }
    )+};
}
