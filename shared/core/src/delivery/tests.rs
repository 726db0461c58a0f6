use std::time::Duration;

use super::{schedule::next_attempt_in, *};
use crate::engine::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn delays_grow_and_attempts_end() {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let (seconds, minutes) = (Duration::from_secs, |minutes: u64| Duration::from_secs(minutes * 60));
    let plan =
        [seconds(5), minutes(5), minutes(30), hours(2), hours(5), hours(10), hours(14), hours(20), hours(24)];
    for (made, delay) in (1..).zip(plan) {
        assert_eq!(next_attempt_in(made, 0.0, None), Some(delay));
        let late = next_attempt_in(made, 1.0, None).expect("another attempt");
        assert!(late > delay && late <= delay.mul_f64(1.21), "{late:?}");
    }
    assert_eq!(next_attempt_in(ATTEMPTS_MAX, 0.5, None), None);
    assert_eq!(
        next_attempt_in(1, 0.0, Some(seconds(90))),
        Some(seconds(90)),
        "the receiver requests a longer delay"
    );
    assert_eq!(next_attempt_in(2, 0.0, Some(seconds(90))), Some(minutes(5)), "a shorter one is ignored");
    assert_eq!(next_attempt_in(1, 0.0, Some(hours(1_000))), Some(RETRY_AFTER_MAX));
    assert_eq!(next_attempt_in(ATTEMPTS_MAX, 0.0, Some(seconds(1))), None);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = at("1994-11-06T08:49:00Z");
    assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
    assert_eq!(
        retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now),
        Some(Duration::ZERO),
        "the date has passed"
    );
    assert_eq!(retry_after("99999999999999999999999", now), Some(RETRY_AFTER_MAX));
    assert_eq!(retry_after("Sun, 06 Nov 2094 08:48:37 GMT", now).unwrap_or(RETRY_AFTER_MAX), RETRY_AFTER_MAX);
    for none in ["", "soon", "-1", "1.5"] {
        assert_eq!(retry_after(none, now), None, "{none}");
    }
}
