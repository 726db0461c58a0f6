//! Numbers as SQLite stores them.

/// Converts a count or a fencing number to the signed type of a column. Both are far below 2^63: counts are at most
/// 2^53, and fencing numbers are microseconds since 1970, or little more.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
