//! What every distributed lock must do: plain functions over two handles, as two processes would have them.
//!
//! Waits are as long as the leases that they wait out. Failures panic: these are tests.
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
/// As short as it can be waited out.
const SHORT: Duration = Duration::from_millis(300);
/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Waits until a name can be had; how long that took.
async fn free_after(lock: &Arc<dyn DistributedLock>, name: &LockName) -> Duration {
    let began = Instant::now();
    while !is_free(lock, name).await {
        assert!(began.elapsed() < PATIENCE, "{name} is never free");
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// While one holds a name nobody else gets it, nor does itself again; other names are free.
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

/// A name of the longest kind is one of its own, and differs by its last character.
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

/// A holder that is gone blocks others for as long as its lease, and then no longer.
pub async fn a_lease_expires_and_not_early([one, other]: Handles) {
    let seat = name("seat");
    let asked = Instant::now();
    let grant = taken(&one, &seat, SHORT).await;
    free_after(&other, &seat).await;
    // Clocks may differ in speed; this machine's do not by a tenth.
    assert!(asked.elapsed() >= SHORT * 9 / 10, "{:?}", asked.elapsed());
    assert!(!grant.is_valid());
}

/// Who comes back after its lease neither extends nor releases what another holds by then.
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
    assert!(!is_free(&one, &seat).await, "it is the next one's still");
    assert!(other.release(next, Duration::ZERO).await.expect("answered"));
}

/// A lease that has run out is not revived, even if nobody else took it.
pub async fn an_expired_lock_is_not_extended([one, other]: Handles) {
    let seat = name("seat");
    let mut grant = taken(&one, &seat, SHORT).await;
    free_after(&other, &seat).await;
    assert!(!one.extend(&mut grant, LONG).await.expect("answered"));
}

/// An extended lease lasts from the extension on.
pub async fn an_extended_lock_is_still_held([one, other]: Handles) {
    let seat = name("seat");
    let mut grant = taken(&one, &seat, SHORT * 10).await;
    assert!(one.extend(&mut grant, LONG).await.expect("answered"));
    assert!(grant.is_valid());
    sleep(SHORT * 11).await;
    assert!(grant.is_valid() && !is_free(&other, &seat).await);
    assert!(one.release(grant, Duration::ZERO).await.expect("answered"));
}

/// A lock that is released early is free once it was held for as long as it must be, and not before.
pub async fn a_lock_is_held_for_at_least_the_minimum_time([one, other]: Handles) {
    let seat = name("seat");
    let began = Instant::now();
    let grant = taken(&one, &seat, LONG).await;
    assert!(one.release(grant, SHORT).await.expect("answered"));
    free_after(&other, &seat).await;
    assert!(began.elapsed() >= SHORT * 9 / 10, "{:?}", began.elapsed());
}

/// Some hundred contend for one name: never are there two holders, and the numbers of grants grow.
pub async fn contenders_hold_one_at_a_time_and_numbers_grow(handles: Handles) {
    const CONTENDERS: usize = 300;
    let held = Arc::new(AtomicBool::new(false));
    let last = Arc::new(AtomicU64::new(0));
    let locks = handles.map(|lock| Arc::new(Locks::new(lock, LONG, LONG)));
    // So many at once as a server has connections; the others come when they are done.
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
            assert!(last.swap(fencing, Ordering::SeqCst) < fencing, "{fencing} was there before");
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
    assert!(one.waited + other.waited > 0, "they did not meet");
}

/// Several are taken in one order, whatever order they are asked for in, and all or none.
pub async fn several_locks_are_taken_in_order_and_all_or_none([one, other]: Handles) {
    let [a, b] = ["a", "b"].map(name);
    let blocked = taken(&one, &b, LONG).await;
    let locks = Locks::new(other.clone(), Duration::from_millis(50), LONG);
    let refused = locks.acquire(vec![b.clone(), a.clone(), b.clone()]).await.err().expect("refused");
    assert!(matches!(refused, LockError::TimedOut { name, .. } if name == b));
    assert!(is_free(&one, &a).await, "what was taken before was given back");
    assert_eq!((locks.counts().waited, locks.counts().timed_out), (1, 1));
    assert!(one.release(blocked, Duration::ZERO).await.expect("answered"));
    let mut held = locks.acquire(vec![b, a]).await.expect("free");
    assert_eq!(held.grants().iter().map(|grant| grant.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(held.kept_while(async { 7 }).await, 7);
    held.release().await;
}

/// What takes longer than a lease keeps its locks, as long as its process runs.
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

/// Makes a test of each function, which is given what `$open` returns: the handles, and what must outlive them.
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
