//! Buckets of this process alone: what limits holders while Redis is away.
//!
//! The same rule as the script's in `limit.rs`, on this process's clock.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::limit::Rate;

/// Holders that are remembered, above which those are forgotten whose buckets are full; and if none is, no more are.
const HOLDERS_MAX: usize = 65_536;
/// How often it is looked for those at the most: requests wait meanwhile.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// The buckets of all holders.
#[derive(Debug, Default)]
pub(super) struct Buckets(Mutex<Full>);

#[derive(Debug, Default)]
struct Full {
    /// When each holder's bucket will be full again.
    at: HashMap<u128, Instant>,
    swept_at: Option<Instant>,
}

impl Buckets {
    /// Takes one, or says how long until there is one.
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

    /// Gives one back.
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
    /// Forgets those whose buckets are full, unless that was tried a moment ago.
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
        let (buckets, now) = (Buckets::default(), Instant::now());
        let take = |holder, millis| buckets.take(RATE, holder, now + Duration::from_millis(millis));
        for _ in 0..4 {
            assert_eq!(take(1, 0), Ok(()));
        }
        assert_eq!(take(1, 0), Err(Duration::from_millis(250)));
        assert_eq!(take(1, 100), Err(Duration::from_millis(150)));
        assert_eq!(take(2, 100), Ok(()), "another holder's is its own");
        assert_eq!(take(1, 250), Ok(()));
        assert_eq!(take(1, 251), Err(Duration::from_millis(249)));
        buckets.give_back(RATE, 1);
        assert_eq!(take(1, 251), Ok(()));
        // Full again, and no fuller
        for _ in 0..4 {
            assert_eq!(take(1, 10_000), Ok(()));
        }
        assert!(take(1, 10_000).is_err());
    }

    #[test]
    fn it_is_bounded() {
        let (buckets, now) = (Buckets::default(), Instant::now());
        for holder in 0..HOLDERS_MAX as u128 + 10 {
            assert_eq!(buckets.take(RATE, holder, now), Ok(()), "whoever is not remembered is not limited");
        }
        let remembered = || buckets.0.lock().expect("no panic").at.len();
        assert_eq!(remembered(), HOLDERS_MAX);
        // Swept in vain a moment ago; a second later all are full
        let later = now + Duration::from_millis(999);
        assert_eq!(buckets.take(RATE, u128::MAX, later), Ok(()));
        assert_eq!(remembered(), HOLDERS_MAX);
        assert_eq!(buckets.take(RATE, u128::MAX, now + RATE.per), Ok(()));
        assert_eq!(remembered(), 1);
    }
}
