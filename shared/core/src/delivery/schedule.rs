//! The schedule of retries: the delay after a failed attempt, and the header `Retry-After`.

use std::time::Duration;

use crate::engine::Timestamp;

/// The delay between a failed attempt and the next one, in seconds: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
const DELAYS_SECONDS: [u32; 9] =
    [5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];
/// The largest part by which a delay is lengthened at random, so that deliveries that failed together do not retry
/// together.
const JITTER: f64 = 0.2;
/// The most attempts of a delivery. After the last one the delivery is given up.
pub const ATTEMPTS_MAX: u32 = 10;
/// The longest delay that a receiver may request.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The delay after a number of failed attempts; `None` if the delivery is given up. `random` is from 0 to 1. The
/// receiver may request (`requested`) a longer delay than that of the schedule, but no further attempts.
pub(super) fn next_attempt_in(attempts: u32, random: f64, requested: Option<Duration>) -> Option<Duration> {
    debug_assert!(attempts >= 1 && (0.0..=1.0).contains(&random), "{attempts} {random}");
    let place = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let seconds = f64::from(*DELAYS_SECONDS.get(place)?);
    let delay = Duration::from_secs_f64(seconds * (1.0 + JITTER * random.clamp(0.0, 1.0)));
    Some(delay.max(requested.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

/// Parses the header `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. `None` if it is neither.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number of seconds that does not fit a `u64` is longer than the maximum anyway.
        return Some(value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs).min(RETRY_AFTER_MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Some(wait.min(RETRY_AFTER_MAX))
}
