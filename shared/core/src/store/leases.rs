//! Leases: rows that say who holds a name until when, by the store's clock. Decided here, in one place for every back end, on
//! rows that are locked meanwhile. They serve distributed locks ([`crate::lock::DatabaseLock`]) and, by rows of the same
//! table, relays (`shards.rs`).
//!
//! Never: I/O, or a clock but the store's. A lease that has run out is not revived, since others may have acted on it.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::engine::Timestamp;

/// What the names of locks begin with in the table; those of relays begin with something else.
const LOCK: &str = "lock/";
/// Between which names those of locks are: `0` comes after `/`.
pub(super) const LOCKS: (&str, &str) = (LOCK, "lock0");
/// The longest name that the table takes.
const LENGTH_MAX: usize = 64;

/// A row of the table of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) owner: Option<Uuid>,
    pub(super) fencing: u64,
    pub(super) expires_at: Timestamp,
}

impl Row {
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    fn is_held_by(&self, owner: Uuid, fencing: u64, now: Timestamp) -> bool {
        self.is_alive(now) && self.owner == Some(owner) && self.fencing == fencing
    }
}

/// The fencing number after `last`. Never below the clock in microseconds, so that it grows also where the row that remembered
/// the last one was deleted; no row is taken a million times a second.
pub(super) fn next_fencing(last: Option<u64>, now: Timestamp) -> u64 {
    let floor = u64::try_from(now.as_microsecond()).unwrap_or(0);
    last.map_or(0, |last| last + 1).max(floor)
}

/// When a lease ends that is taken or extended at `now`.
pub(super) fn until(now: Timestamp, lease_for: Duration) -> Timestamp {
    now.checked_add(lease_for).unwrap_or(Timestamp::MAX)
}

/// The name of a lock's row: the lock's own, or as much of it as there is room for, and a hash.
pub(super) fn row_name(lock: &str) -> String {
    let whole = format!("{LOCK}{lock}");
    if whole.len() <= LENGTH_MAX {
        return whole;
    }
    let hash = blake3::hash(lock.as_bytes()).to_hex();
    // No name has a `~`. Names are ASCII, as are those who only look like one: they have no row.
    let head: String = whole.chars().take(LENGTH_MAX - 33).collect();
    format!("{head}~{}", &hash[..32])
}

/// The row of whoever takes a lease at `now`; none where somebody holds it.
pub(super) fn take(
    row: Option<Row>,
    name: &str,
    owner: Uuid,
    now: Timestamp,
    lease_for: Duration,
) -> Option<Row> {
    if row.as_ref().is_some_and(|row| row.is_alive(now)) {
        return None;
    }
    let fencing = next_fencing(row.map(|row| row.fencing), now);
    Some(Row { name: name.to_owned(), owner: Some(owner), fencing, expires_at: until(now, lease_for) })
}

/// The row with another end; none where it is not held by this owner under this number.
pub(super) fn end_in(
    row: Option<Row>,
    owner: Uuid,
    fencing: u64,
    now: Timestamp,
    ends_in: Duration,
) -> Option<Row> {
    let row = row.filter(|row| row.is_held_by(owner, fencing, now))?;
    Some(Row { expires_at: until(now, ends_in), ..row })
}

/// What a step of purging locks did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgedLeases {
    /// Rows that were deleted.
    pub deleted: u64,
    /// Behind which row to go on; `None` where none is left.
    pub next: Option<String>,
}

/// Those of `names`, the first `limit` there were, that are gone, and where the next begin.
pub(super) fn purged(mut names: Vec<String>, deleted: u64, limit: u32) -> PurgedLeases {
    let next = if names.len() < limit as usize { None } else { names.pop() };
    PurgedLeases { deleted, next }
}

/// Leases that any process may take: the port of distributed locks. A method is one whole transaction, and none is
/// cancel-safe.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Takes a lease for so long, if nobody holds it, and returns its fencing number: higher than any before of this name.
    async fn take_lease(
        &self,
        name: &str,
        owner: Uuid,
        lease_for: Duration,
    ) -> Result<Option<u64>, StoreError>;

    /// Has a lease end in so long from now (at once, to release it), and says whether it was held by this owner under this
    /// number. If it was not, nothing changes.
    async fn end_lease_in(
        &self,
        name: &str,
        owner: Uuid,
        fencing: u64,
        ends_in: Duration,
    ) -> Result<bool, StoreError>;

    /// Forgets locks that ended longer than `ended_for` ago: the first `limit` of them behind the row `after`, in the order of
    /// their names. Numbers of a name that was forgotten go on from the clock, so `ended_for` must be longer than a clock may
    /// ever go back.
    async fn purge_leases(
        &self,
        ended_for: Duration,
        after: Option<&str>,
        limit: u32,
    ) -> Result<PurgedLeases, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_has_a_row_of_its_own() {
        assert_eq!(row_name("resource/seat"), "lock/resource/seat");
        let long = |end: &str| row_name(&format!("resource/{}{end}", "x".repeat(120)));
        assert!(long("a").len() == 64 && long("a").starts_with("lock/resource/xxx"));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }

    #[test]
    fn numbers_grow_also_where_the_row_is_gone_or_the_clock_goes_back() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = now + Duration::from_micros(1);
        let first = next_fencing(None, now);
        assert!(next_fencing(None, later) > first);
        assert_eq!(next_fencing(Some(first), now), first + 1);
        assert_eq!(next_fencing(Some(first), Timestamp::UNIX_EPOCH), first + 1);
    }
}
