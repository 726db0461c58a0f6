//! What all connections of a proxy share: the faults that are set, the counters, and who is connected.
//!
//! Never: bytes. Next: `link.rs`, which asks here what to do with each packet.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;

use super::packets::{self, Packet, command};
use crate::connections::{Connections, lock};

/// See the methods of [`super::Proxy`].
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) stopping: AtomicBool,
    pub(super) latency_nanos: AtomicU64,
    pub(super) cut_after: AtomicUsize,
    pub(super) cut_before: AtomicUsize,
    pub(super) cuts: AtomicU64,
    pub(super) deadlocks: AtomicU64,
    pub(super) lock_waits: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) commands: AtomicU64,
    stalled: Mutex<bool>,
    passed: Condvar,
    injection: Mutex<Option<Injection>>,
    pub(super) open: Connections,
}

#[derive(Debug)]
struct Injection {
    probability: f64,
    random: Rng,
}

/// What is done with a packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Forward,
    CutAfter,
    CutBefore,
    Deadlock,
    LockWait,
}

impl Fate {
    /// What the client is told of an injected error.
    pub(super) fn error(self) -> Vec<u8> {
        match self {
            Self::Deadlock => packets::error(
                1213,
                "40001",
                "Deadlock found when trying to get lock; try restarting transaction",
            ),
            _ => packets::error(1205, "HY000", "Lock wait timeout exceeded; try restarting transaction"),
        }
    }
}

impl Faults {
    pub(super) fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_nanos.load(Ordering::Relaxed))
    }

    /// Decides, and counts what is decided but for cuts, which count when they are made.
    pub(super) fn fate(&self, packet: Packet<'_>) -> Fate {
        if packet.is_commit() {
            if take_one(&self.cut_before) {
                return Fate::CutBefore;
            }
            if take_one(&self.cut_after) {
                return Fate::CutAfter;
            }
        }
        let injectable =
            matches!(packet.command(), Some(command::QUERY | command::EXECUTE | command::PREPARE));
        // No server refuses a ROLLBACK, and the answer to a command of several packets has another sequence number.
        if !injectable || packet.is_rollback() || packet.is_continued() {
            return Fate::Forward;
        }
        let mut injection = lock(&self.injection);
        let Some(Injection { probability, random }) = injection.as_mut() else { return Fate::Forward };
        if random.f64() >= *probability {
            Fate::Forward
        } else if random.bool() {
            self.deadlocks.fetch_add(1, Ordering::Relaxed);
            Fate::Deadlock
        } else {
            self.lock_waits.fetch_add(1, Ordering::Relaxed);
            Fate::LockWait
        }
    }

    pub(super) fn inject(&self, probability: f64, seed: u64) {
        debug_assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        let on = probability > 0.0;
        *lock(&self.injection) = on.then(|| Injection { probability, random: Rng::with_seed(seed) });
    }

    pub(super) fn stall(&self, on: bool) {
        *lock(&self.stalled) = on;
        self.passed.notify_all();
    }

    /// Waits while everything stalls, and returns at once for a connection that was closed.
    pub(super) fn pass(&self, connection: u64) {
        let mut stalled = lock(&self.stalled);
        while *stalled && self.open.is_open(connection) {
            stalled = self.passed.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes both sides.
    pub(super) fn close(&self, connection: u64) {
        self.open.close(connection);
        self.wake();
    }

    pub(super) fn close_all(&self) {
        self.open.close_all();
        self.wake();
    }

    fn wake(&self) {
        // Under the lock: whoever has just seen that it stalls is waiting by now.
        let _stalled = lock(&self.stalled);
        self.passed.notify_all();
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
