//! Redlock: the conformance suite, and faults of its nodes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::lock::{DistributedLock, Grant, LockError, LockName, conformance::Handles};
use bespeak_services::Redis;
use bespeak_tests::{Nodes, ask, redlock, until};

/// A timeout that a node does not exceed on a machine that is many times slower.
const PATIENT: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(600);

async fn open() -> (Handles, Nodes) {
    let nodes = Nodes::start().await;
    ([nodes.lock(PATIENT), nodes.lock(PATIENT)], nodes)
}

mod conformance {
    use super::*;

    bespeak::lock_conformance_tests!(open);
}

/// A short timeout, for tests in which a node must exceed it.
const IMPATIENT: Duration = Duration::from_millis(300);

fn seat() -> LockName {
    LockName::new("seat").expect("a name")
}

async fn take(lock: &Arc<dyn DistributedLock>) -> Result<Option<Grant>, LockError> {
    lock.try_acquire(&seat(), LEASE).await
}

async fn taken(lock: &Arc<dyn DistributedLock>) -> Grant {
    // The first connection to a node that was just restarted may fail.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match take(lock).await {
            Ok(Some(grant)) => return grant,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes the lock, and waits until all nodes know: it is taken once a majority does, and the last node may be late.
async fn taken_on_all(lock: &Arc<dyn DistributedLock>, nodes: &[Redis]) -> Grant {
    let grant = taken(lock).await;
    for node in nodes {
        until("the node knows", || async { ask(node, &["EXISTS", "bespeak:lock:{seat}"]).await == ":1" })
            .await;
    }
    grant
}

async fn give_back(lock: &Arc<dyn DistributedLock>, grant: Grant) -> bool {
    lock.release(grant, Duration::ZERO).await.expect("answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nodes_may_be_down_and_two_may_not() {
    let ([one, other], mut nodes) = open().await;
    let mut last = taken(&one).await;
    assert!(give_back(&one, last.clone()).await);
    // With any one node down, a lock is granted and numbers grow
    for away in 0..3 {
        nodes.nodes[away].kill().await.expect("killed");
        let mut grant = taken(&one).await;
        assert!(grant.fencing() > last.fencing(), "{grant:?} after {last:?}");
        assert!(take(&other).await.expect("answered").is_none());
        assert!(one.extend(&mut grant, LEASE).await.expect("answered"));
        assert!(give_back(&one, grant.clone()).await);
        last = grant;
        nodes.nodes[away].restart().await.expect("restarted");
    }
    // With two nodes down, no lock is granted
    let held = taken(&one).await;
    for node in &mut nodes.nodes[..2] {
        node.kill().await.expect("killed");
    }
    for lock in [&one, &other] {
        let refused = take(lock).await.expect_err("no majority");
        assert!(matches!(refused, LockError::NoQuorum { answered: 1, nodes: 3, needed: 2, .. }), "{refused}");
    }
    assert!(matches!(one.release(held, Duration::ZERO).await, Err(LockError::NoQuorum { .. })));
    // After their return, a lock is granted again
    for node in &mut nodes.nodes[..2] {
        node.restart().await.expect("restarted");
    }
    let grant = taken(&other).await;
    assert!(grant.fencing() > last.fencing());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_node_delays_nothing_and_a_slow_majority_grants_nothing() {
    let ([patient, rival], mut nodes) = open().await;
    let (one, other) = (nodes.lock(IMPATIENT), nodes.lock(IMPATIENT));
    // Given open connections, so that the times below are those of the calls alone
    for lock in [&patient, &one, &other] {
        let grant = taken(lock).await;
        assert!(give_back(lock, grant).await);
    }
    nodes.nodes[0].freeze().await.expect("frozen");
    // A client that waited for all nodes would need the whole timeout of one node
    let began = Instant::now();
    let grant = taken(&patient).await;
    assert!(take(&rival).await.expect("answered").is_none());
    assert!(give_back(&patient, grant).await);
    assert!(began.elapsed() < PATIENT, "the silent node was waited for");
    nodes.nodes[0].thaw().await.expect("thawed");
    // If all nodes exceed the timeout, nothing is granted, and late grants are released
    for switch in &nodes.switches {
        switch.set_latency(Duration::from_secs(1));
    }
    let refused = take(&one).await.expect_err("too slow");
    assert!(matches!(refused, LockError::NoQuorum { answered: 0, .. }), "{refused}");
    for switch in &nodes.switches {
        switch.set_latency(Duration::ZERO);
    }
    taken(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_losing_a_grant_of_all_three_makes_no_second_holder() {
    let ([one, other], mut nodes) = open().await;
    let held = taken_on_all(&one, &nodes.nodes).await;
    for node in &mut nodes.nodes[..1] {
        node.restart_empty().await.expect("restarted");
    }
    assert!(take(&other).await.is_ok_and(|grant| grant.is_none()), "two nodes still have the lock");
    assert!(give_back(&one, held.clone()).await);
    let next = taken(&other).await;
    assert!(next.fencing() > held.fencing());
}

/// The weakness that the documentation of Redlock warns of: with this lock alone, two processes hold at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_losing_a_grant_of_two_makes_a_second_holder_with_a_higher_number() {
    let ([one, other], mut nodes) = open().await;
    nodes.nodes[2].kill().await.expect("killed");
    let first = taken(&one).await;
    nodes.nodes[2].restart().await.expect("restarted");
    nodes.nodes[1].restart_empty().await.expect("restarted");
    let second = taken(&other).await;
    // Both believe that they hold the lock. The store can distinguish them by their numbers.
    assert!(first.is_valid() && second.is_valid());
    assert!(second.fencing() > first.fencing());
}

/// A majority decides without waiting for the third node. Its late messages must still arrive in order: otherwise a
/// released lock stays taken there until its lease expires, and leftovers on two nodes would block every client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lock_is_gone_from_every_node() {
    const CONTENDERS: usize = 12;
    const TURNS: usize = 50;
    let (handles, nodes) = open().await;
    let mut contenders = tokio::task::JoinSet::new();
    for n in 0..CONTENDERS {
        let lock = handles[n % 2].clone();
        contenders.spawn(async move {
            for _ in 0..TURNS {
                if let Some(grant) = take(&lock).await.expect("answered") {
                    assert!(give_back(&lock, grant).await);
                }
            }
        });
    }
    while let Some(ended) = contenders.join_next().await {
        ended.expect("no panic");
    }
    for node in &nodes.nodes {
        until("nothing is left", async || ask(node, &["EXISTS", "bespeak:lock:{seat}"]).await == ":0").await;
    }
}

/// Each node counts by itself, and one may be far ahead. Its number is granted only once a majority has stored it, so
/// that it is not granted again while that node is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_from_a_node_that_was_ahead_is_not_granted_twice() {
    let ([one, other], mut nodes) = open().await;
    let grant = taken(&one).await;
    assert!(give_back(&one, grant.clone()).await);
    for ahead in 0..3 {
        let far = grant.fencing() + (ahead as u64 + 1) * 1_000_000_000_000;
        let set = ["SET", "bespeak:lock:{seat}:fencing", &far.to_string()];
        assert_eq!(ask(&nodes.nodes[ahead], &set).await, "+OK");
        // Whichever node is down, one of the others has stored the granted number.
        let away = (ahead + 1) % 3;
        nodes.nodes[away].kill().await.expect("killed");
        let granted = taken(&one).await;
        assert_eq!(granted.fencing(), far + 1, "one above the highest number of a node");
        assert!(give_back(&one, granted.clone()).await);
        nodes.nodes[away].restart().await.expect("restarted");
        nodes.nodes[ahead].kill().await.expect("killed");
        let next = taken(&other).await;
        assert!(next.fencing() > granted.fencing(), "{next:?} after {granted:?}");
        assert!(give_back(&other, next).await);
        nodes.nodes[ahead].restart().await.expect("restarted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn emptying_all_nodes_ends_every_lock_and_numbers_still_grow() {
    let ([one, other], nodes) = open().await;
    let mut lost = taken(&one).await;
    nodes.flush().await;
    let next = taken(&other).await;
    assert!(next.fencing() > lost.fencing(), "{next:?} after {lost:?}");
    assert!(!one.extend(&mut lost, LEASE).await.expect("answered"));
    assert!(!give_back(&one, lost).await);
    assert!(take(&one).await.expect("answered").is_none(), "the next holder still has it");
    assert!(give_back(&other, next).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_on_one_node_makes_no_second_holder_and_numbers_grow() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Redis::start_own_with_clock(&[]).await.unwrap_or_else(|missing| panic!("{missing}")));
    }
    let urls: Vec<_> = nodes.iter().map(Redis::url).collect();
    let (one, other) = (redlock(urls.clone(), PATIENT), redlock(urls, PATIENT));
    let mut last = 0;
    // An hour ahead, the node frees the lock early; an hour back, it keeps the lock too long.
    for ahead in [3_600, -3_600, 0] {
        let held = taken_on_all(&one, &nodes).await;
        assert!(held.fencing() > last);
        last = held.fencing();
        nodes[1].set_clock(ahead).expect("set");
        assert!(take(&other).await.expect("answered").is_none(), "{ahead} s");
        assert!(give_back(&one, held).await);
    }
}
