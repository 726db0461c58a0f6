use std::time::Duration;

use super::{super::*, at};

fn seen(sign: Sign) -> Observation {
    Observation { sign, is_probe: true, random: 1.0 }
}

#[test]
fn the_pause_of_an_open_circuit_doubles_up_to_a_quarter_of_an_hour() {
    let now = at("2026-01-01T00:00:00Z");
    let mut health = EndpointHealth::default();
    let mut pauses = Vec::new();
    for _ in 0..15 {
        health = health.after(&seen(Sign::Failed), now, Duration::MAX).0;
        pauses.extend(health.paused_until.map(|until| until.duration_since(now).as_secs()));
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]);
    assert!(matches!(health.circuit(now), Circuit::Open(_)));
    let late = Observation { is_probe: false, ..seen(Sign::Failed) };
    assert_eq!(health.after(&late, now, Duration::MAX).0, health, "it began before the circuit opened");
    let half = Observation { random: 0.0, ..seen(Sign::Failed) };
    let soon = EndpointHealth { failures: 4, ..EndpointHealth::default() }.after(&half, now, Duration::MAX).0;
    assert_eq!(soon.paused_until.map(|until| until.duration_since(now).as_secs()), Some(5));
    assert_eq!(health.after(&seen(Sign::Delivered), now, Duration::MAX), (EndpointHealth::default(), None));
    let refused = health.after(&seen(Sign::Refused), now, Duration::MAX).0;
    assert_eq!((refused.failures, refused.circuit(now)), (0, Circuit::Closed), "it is alive");
    assert_eq!(refused.failing_since, health.failing_since, "and delivered nothing");
}

#[test]
fn one_answer_of_410_disables_nothing() {
    let start = at("2026-01-01T00:00:00Z");
    let minute = |n: i64| start.checked_add(Duration::from_secs(60 * n.unsigned_abs())).expect("a time");
    let run = |signs: &[(i64, Sign)]| {
        let mut health = EndpointHealth::default();
        signs.iter().fold(None, |reason, (at, sign)| {
            let (next, disabled) = health.after(&seen(*sign), minute(*at), Duration::MAX);
            health = next;
            reason.or(disabled)
        })
    };
    assert_eq!(run(&[(0, Sign::Gone), (1, Sign::Gone), (2, Sign::Gone), (59, Sign::Gone)]), None, "too soon");
    assert_eq!(run(&[(0, Sign::Gone), (90, Sign::Gone)]), None, "too few");
    assert_eq!(run(&[(0, Sign::Gone), (30, Sign::Delivered), (60, Sign::Gone), (70, Sign::Gone)]), None);
    assert_eq!(run(&[(0, Sign::Gone), (30, Sign::Refused), (60, Sign::Gone), (70, Sign::Gone)]), None);
    let confirmed = run(&[(0, Sign::Gone), (30, Sign::Failed), (40, Sign::Gone), (60, Sign::Gone)]);
    assert_eq!(confirmed.as_deref(), Some("it answered 410 Gone 3 times, for 1 hour"));
}
