//! The places of connections: how many are served at the same time, and what happens beyond that.
//!
//! Beyond the limit, a few more connections are accepted for one short request each: health checks are answered, and
//! every other request gets 503. Beyond those, the kernel queues.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections are accepted beyond the limit.
const SPARE: usize = 64;
/// How long idle connections make room after a connection found no regular place.
const PRESSURE: Duration = Duration::from_secs(3);

/// A place of a connection; it is free again when this is dropped.
pub(super) struct Place {
    /// Whether the connection is beyond the limit.
    pub(super) is_spare: bool,
    _permit: OwnedSemaphorePermit,
}

/// All places of a listener.
pub(super) struct Places {
    regular: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    started: Instant,
    /// When a connection last found no regular place, in milliseconds after the start; 0 for never.
    pressed_at: AtomicU64,
}

impl Places {
    pub(super) fn new(connections_max: usize) -> Self {
        let [regular, spare] = [connections_max, SPARE].map(|places| Arc::new(Semaphore::new(places)));
        Self { regular, spare, started: Instant::now(), pressed_at: AtomicU64::new(0) }
    }

    /// Waits until another connection may be accepted. Cancel-safe.
    pub(super) async fn wait(&self) {
        while self.regular.available_permits() == 0 && self.spare.available_permits() == 0 {
            self.press();
            // A permit that arrives here is given back at once: only the task that waits here takes places.
            tokio::select! {
                _ = self.regular.acquire() => {}
                _ = self.spare.acquire() => {}
                () = tokio::time::sleep(PRESSURE / 3) => {}
            }
        }
    }

    /// Takes a place: a regular one if there is one, else a spare one.
    pub(super) fn take(&self) -> Option<Place> {
        if let Ok(permit) = self.regular.clone().try_acquire_owned() {
            return Some(Place { is_spare: false, _permit: permit });
        }
        self.press();
        let permit = self.spare.clone().try_acquire_owned().ok()?;
        Some(Place { is_spare: true, _permit: permit })
    }

    fn press(&self) {
        self.pressed_at.store(self.millis(), Ordering::Relaxed);
    }

    /// Whether connections lack a place, so that idle ones should end.
    pub(super) fn are_wanted(&self) -> bool {
        let pressed_at = self.pressed_at.load(Ordering::Relaxed);
        pressed_at != 0 && u128::from(self.millis().saturating_sub(pressed_at)) < PRESSURE.as_millis()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}
