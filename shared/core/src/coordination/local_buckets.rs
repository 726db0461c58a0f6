//! The buckets of the rate limit that this process keeps while Redis does not answer.
//!
//! The rule is that of the script in `shared_buckets.rs`, on the clock of this process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Rate;

/// The most holders with a bucket. At this number full buckets are dropped; if none is full, further holders are not
/// limited.
const HOLDERS_MAX: usize = 65_536;
/// The shortest time between two searches for full buckets, because requests wait during a search.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// The buckets of all holders, each as the instant at which it will be full.
#[derive(Debug, Default)]
pub(super) struct LocalBuckets(Mutex<Full>);

#[derive(Debug, Default)]
struct Full {
    /// The instant at which each holder's bucket will be full again.
    at: HashMap<u128, Instant>,
    swept_at: Option<Instant>,
}

impl LocalBuckets {
    /// Takes one token, or returns the time until there is one.
    pub(super) fn take(&self, rate: Rate, holder: u128, now: Instant) -> Result<(), Duration> {
        let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = full.at.get(&holder).copied();
        let then = known.map_or(now, |at| at.max(now)) + rate.interval();
        if let Some(wait) = then.checked_duration_since(now + rate.per).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if known.is_none() && full.at.len() >= HOLDERS_MAX {
            full.sweep(now);
        }
        if known.is_some() || full.at.len() < HOLDERS_MAX {
            full.at.insert(holder, then);
        }
        Ok(())
    }

    /// Returns one token.
    pub(super) fn give_back(&self, rate: Rate, holder: u128) {
        let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = full.at.get_mut(&holder)
            && let Some(earlier) = at.checked_sub(rate.interval())
        {
            *at = earlier;
        }
    }
}

impl Full {
    /// Drops full buckets, unless the last search was a moment ago.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEPT_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        self.at.retain(|_, at| *at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { requests: 4, per: Duration::from_secs(1) };

    #[test]
    fn a_bucket_is_emptied_at_once_and_fills_evenly() {
        let (buckets, now) = (LocalBuckets::default(), Instant::now());
        let take = |holder, millis| buckets.take(RATE, holder, now + Duration::from_millis(millis));
        for _ in 0..4 {
            assert_eq!(take(1, 0), Ok(()));
        }
        assert_eq!(take(1, 0), Err(Duration::from_millis(250)));
        assert_eq!(take(1, 100), Err(Duration::from_millis(150)));
        assert_eq!(take(2, 100), Ok(()), "each holder has a bucket");
        assert_eq!(take(1, 250), Ok(()));
        assert_eq!(take(1, 251), Err(Duration::from_millis(249)));
        buckets.give_back(RATE, 1);
        assert_eq!(take(1, 251), Ok(()));
        // Ten seconds later the bucket is full and holds no more than four
        for _ in 0..4 {
            assert_eq!(take(1, 10_000), Ok(()));
        }
        assert!(take(1, 10_000).is_err());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (buckets, now) = (LocalBuckets::default(), Instant::now());
        for holder in 0..HOLDERS_MAX as u128 + 10 {
            assert_eq!(buckets.take(RATE, holder, now), Ok(()), "a holder without a bucket is not limited");
        }
        let buckets_kept = || buckets.0.lock().expect("no panic").at.len();
        assert_eq!(buckets_kept(), HOLDERS_MAX);
        // The last search, a moment ago, found no full bucket; a second later all are full
        let later = now + Duration::from_millis(999);
        assert_eq!(buckets.take(RATE, u128::MAX, later), Ok(()));
        assert_eq!(buckets_kept(), HOLDERS_MAX);
        assert_eq!(buckets.take(RATE, u128::MAX, now + RATE.per), Ok(()));
        assert_eq!(buckets_kept(), 1);
    }
}
