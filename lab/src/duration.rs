//! Parses a span of time on the command line, such as `5s` or `500ms`.

use std::time::Duration;

/// The longest span that is accepted.
const LONGEST: Duration = Duration::from_hours(1);

/// Parses a number with one of the units `ms`, `s` and `m`. A span is at most an hour.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number with ms, s or m, such as 5s, and at most 60m".to_owned();
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|span| *span <= LONGEST).ok_or_else(wrong)
}
