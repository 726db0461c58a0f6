//! Which partition a key belongs to, and which partitions are away.
//!
//! A partition without a leader must not slow down the others (I10). Records to it time out, so its keys are held back
//! once that was seen, and one key is tried every few seconds, with a short time-out. This is only an optimisation: a
//! wrong guess of a partition delays events and never loses or reorders any.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time for which a partition is held back after a record to it timed out.
const AWAY_FOR: Duration = Duration::from_secs(5);
/// The time after which another key is tried if nothing became known of the last trial.
const TRIAL_FOR: Duration = Duration::from_secs(15);

/// The partitions of a topic that do not acknowledge records at present.
pub(super) struct Partitions {
    count: u32,
    away: Mutex<HashMap<u32, Away>>,
}

/// A partition that is away.
struct Away {
    /// When a key, or another key, is tried.
    retry_at: Instant,
    /// The key that is tried now.
    trial: Option<String>,
}

impl Partitions {
    /// The partitions of a topic with this many.
    pub(super) fn new(count: i32) -> Self {
        Self { count: u32::try_from(count).unwrap_or(1).max(1), away: Mutex::default() }
    }

    /// The partition of a key, as librdkafka's `consistent_random` chooses it for a key that is not empty.
    pub(super) fn of(&self, key: &str) -> u32 {
        crc32(key.as_bytes()) % self.count
    }

    /// Whether events of a key may be sent now: its partition is there, or this key is chosen to try it.
    pub(super) fn admits(&self, key: &str) -> bool {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_empty() {
            return true;
        }
        let Some(partition) = away.get_mut(&self.of(key)) else { return true };
        let now = Instant::now();
        if now >= partition.retry_at {
            *partition = Away { retry_at: now + TRIAL_FOR, trial: Some(key.to_owned()) };
        }
        partition.trial.as_deref() == Some(key)
    }

    /// Whether the partition of a key is away, so that the key is sent only as a trial.
    pub(super) fn is_away(&self, key: &str) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        !away.is_empty() && away.contains_key(&self.of(key))
    }

    /// Records that a partition acknowledged a record of this key.
    pub(super) fn acknowledged(&self, key: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if !away.is_empty() {
            let partition = self.of(key);
            if away.remove(&partition).is_some() {
                tracing::info!(partition, "a partition acknowledges events again");
            }
        }
    }

    /// Records that a partition did not acknowledge a record of this key, while other partitions did.
    pub(super) fn timed_out(&self, key: &str, reason: &str) {
        let partition = self.of(key);
        let away = Away { retry_at: Instant::now() + AWAY_FOR, trial: None };
        let mut all = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if all.insert(partition, away).is_none() {
            tracing::error!(
                partition,
                reason,
                "a partition does not acknowledge events: its keys wait, and the others continue"
            );
        }
    }

    /// Forgets which partitions are away: the log as a whole is.
    pub(super) fn forget(&self) {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The checksum CRC-32 of IEEE 802.3, by which librdkafka assigns keys to partitions.
fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        (0..8).fold(crc ^ u32::from(*byte), step)
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_partition_that_is_away_is_tried_with_one_key_at_a_time() {
        let partitions = Partitions::new(2);
        let of = |partition| {
            (0..).map(|n: u32| format!("key-{n}")).filter(move |key| Partitions::new(2).of(key) == partition)
        };
        let (here, away): (Vec<_>, Vec<_>) = (of(0).take(2).collect(), of(1).take(2).collect());
        assert!(here.iter().chain(&away).all(|key| partitions.admits(key)));
        partitions.timed_out(&away[0], "no leader");
        assert!(here.iter().all(|key| partitions.admits(key)), "the other partition continues");
        assert!(!away.iter().any(|key| partitions.admits(key)));
        let over = Away { retry_at: Instant::now(), trial: None };
        partitions.away.lock().unwrap().insert(1, over);
        assert!(partitions.admits(&away[1]), "one key is tried");
        assert!(!partitions.admits(&away[0]), "one at a time");
        assert!(partitions.is_away(&away[1]) && partitions.admits(&away[1]));
        partitions.acknowledged(&away[1]);
        assert!(away.iter().all(|key| partitions.admits(key) && !partitions.is_away(key)));
    }
}
