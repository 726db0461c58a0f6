//! The state that all connections of a proxy share: the active faults, the counters and the open connections.
//!
//! Never: the forwarding of bytes. Next: `link.rs`, which gets the action for each packet from here.

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

/// The faults, as the methods of [`super::Proxy`] describe them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) stopping: AtomicBool,
    pub(super) latency_nanos: AtomicU64,
    pub(super) cut_after: AtomicUsize,
    pub(super) cut_before: AtomicUsize,
    /// Whether queries of several statements that end in COMMIT are cut too.
    pub(super) cut_scripts: AtomicBool,
    pub(super) cuts: AtomicU64,
    pub(super) deadlocks: AtomicU64,
    pub(super) lock_waits: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) commands: AtomicU64,
    stalled: Mutex<bool>,
    stall_changed: Condvar,
    injection: Mutex<Option<Injection>>,
    pub(super) open: Connections,
}

#[derive(Debug)]
struct Injection {
    probability: f64,
    random: Rng,
}

/// The action for a packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Forward,
    CutAfter,
    CutBefore,
    Deadlock,
    LockWait,
}

impl Action {
    /// The error packet of an injected deadlock or lock wait timeout.
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

    /// Decides what happens to a packet, and counts injected errors. Cuts are counted when they are made.
    pub(super) fn action(&self, packet: Packet<'_>) -> Action {
        let is_script = || self.cut_scripts.load(Ordering::Relaxed) && packet.ends_in_commit();
        if packet.is_commit() || is_script() {
            if take_one(&self.cut_before) {
                return Action::CutBefore;
            }
            if take_one(&self.cut_after) {
                return Action::CutAfter;
            }
        }
        let injectable =
            matches!(packet.command(), Some(command::QUERY | command::EXECUTE | command::PREPARE));
        // Servers do not refuse a ROLLBACK. The response to a command of several packets has another sequence number.
        if !injectable || packet.is_rollback() || packet.is_continued() {
            return Action::Forward;
        }
        let mut injection = lock(&self.injection);
        let Some(Injection { probability, random }) = injection.as_mut() else { return Action::Forward };
        if random.f64() >= *probability {
            Action::Forward
        } else if random.bool() {
            self.deadlocks.fetch_add(1, Ordering::Relaxed);
            Action::Deadlock
        } else {
            self.lock_waits.fetch_add(1, Ordering::Relaxed);
            Action::LockWait
        }
    }

    pub(super) fn inject(&self, probability: f64, seed: u64) {
        debug_assert!((0.0..=1.0).contains(&probability), "{probability} must be between 0 and 1");
        let on = probability > 0.0;
        *lock(&self.injection) = on.then(|| Injection { probability, random: Rng::with_seed(seed) });
    }

    pub(super) fn stall(&self, on: bool) {
        *lock(&self.stalled) = on;
        self.stall_changed.notify_all();
    }

    /// Waits until no stall is set or the connection is closed.
    pub(super) fn wait_while_stalled(&self, connection: u64) {
        let mut stalled = lock(&self.stalled);
        while *stalled && self.open.is_open(connection) {
            stalled = self.stall_changed.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes both sides of a connection.
    pub(super) fn close(&self, connection: u64) {
        self.open.close(connection);
        self.wake();
    }

    pub(super) fn close_all(&self) {
        self.open.close_all();
        self.wake();
    }

    fn wake(&self) {
        // The lock ensures that a thread which has just seen the stall is already waiting, so it gets the notification.
        let _stalled = lock(&self.stalled);
        self.stall_changed.notify_all();
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
