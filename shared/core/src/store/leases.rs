//! Leases: rows that record the owner of a name until an instant of the store's clock. This file decides for every
//! back end, on rows that are locked meanwhile. Leases serve distributed locks ([`crate::lock::DatabaseLock`]) and,
//! with rows of the same table, relays (`shards.rs`).
//!
//! Never: I/O, or a clock other than the store's. A lease that has expired is not renewed, because others may have
//! acted on its expiry.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::engine::Timestamp;

/// The prefix of the names of locks in the table. The names of relays start differently.
const LOCK: &str = "lock/";
/// The range of the names of locks, both ends exclusive: `0` follows `/` in ASCII.
pub(super) const LOCKS: (&str, &str) = (LOCK, "lock0");
/// Longer than any lease: the lease of a lock is an hour at most.
const LEASE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest name in the table.
const LENGTH_MAX: usize = 64;

/// A row of the table of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseRow {
    pub(super) name: String,
    pub(super) owner: Option<Uuid>,
    pub(super) fencing: u64,
    pub(super) expires_at: Timestamp,
}

impl LeaseRow {
    /// Whether the lease still counts. One that ends later than any lease can was written by a clock that was wrong.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at > now && self.expires_at <= until(now, LEASE_MAX)
    }

    fn is_held_by(&self, owner: Uuid, fencing: u64, now: Timestamp) -> bool {
        self.is_alive(now) && self.owner == Some(owner) && self.fencing == fencing
    }
}

/// The fencing number after `last`. It is never below the clock in microseconds, so it grows even if the row with the
/// last number was deleted; no row is acquired a million times a second.
pub(super) fn next_fencing(last: Option<u64>, now: Timestamp) -> u64 {
    let floor = u64::try_from(now.as_microsecond()).unwrap_or(0);
    last.map_or(0, |last| last + 1).max(floor)
}

/// When a lease ends that is acquired or extended at `now`. It lasts for a day at most.
pub(super) fn until(now: Timestamp, lease_for: Duration) -> Timestamp {
    now.checked_add(lease_for.min(LEASE_MAX)).unwrap_or(Timestamp::MAX)
}

/// The name of a lock's row: the lock's own name or, if that is too long, its beginning and a hash.
pub(super) fn row_name(lock: &str) -> String {
    let whole = format!("{LOCK}{lock}");
    if whole.len() <= LENGTH_MAX {
        return whole;
    }
    let hash = blake3::hash(lock.as_bytes()).to_hex();
    // No lock has a `~` in its name, so shortened names are distinct from whole ones. All names are ASCII, so a
    // character is a byte.
    let head: String = whole.chars().take(LENGTH_MAX - 33).collect();
    format!("{head}~{}", &hash[..32])
}

/// The row after a lease is acquired at `now`; `None` if another owner holds it.
pub(super) fn take(
    row: Option<LeaseRow>,
    name: &str,
    owner: Uuid,
    now: Timestamp,
    lease_for: Duration,
) -> Option<LeaseRow> {
    if row.as_ref().is_some_and(|row| row.is_alive(now)) {
        return None;
    }
    let fencing = next_fencing(row.map(|row| row.fencing), now);
    Some(LeaseRow { name: name.to_owned(), owner: Some(owner), fencing, expires_at: until(now, lease_for) })
}

/// The row with another end; `None` if this owner does not hold it under this fencing number.
pub(super) fn end_in(
    row: Option<LeaseRow>,
    owner: Uuid,
    fencing: u64,
    now: Timestamp,
    ends_in: Duration,
) -> Option<LeaseRow> {
    let row = row.filter(|row| row.is_held_by(owner, fencing, now))?;
    Some(LeaseRow { expires_at: until(now, ends_in), ..row })
}

/// The result of a step of purging leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgedLeases {
    /// Rows that were deleted.
    pub deleted: u64,
    /// The name after which the next step starts; `None` if none is left.
    pub next: Option<String>,
}

/// The result of a step that considered `names`, at most `limit`, and deleted some of them.
pub(super) fn purged(mut names: Vec<String>, deleted: u64, limit: u32) -> PurgedLeases {
    let next = if names.len() < limit as usize { None } else { names.pop() };
    PurgedLeases { deleted, next }
}

/// The port of distributed locks: leases that any process may acquire. Each method is one whole transaction, and none
/// is cancel-safe.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Acquires a lease for `lease_for`, if no other owner holds it, and returns its fencing number, which is higher
    /// than any earlier one of this name.
    async fn take_lease(
        &self,
        name: &str,
        owner: Uuid,
        lease_for: Duration,
    ) -> Result<Option<u64>, StoreError>;

    /// Ends a lease `ends_in` from now (zero releases it), and returns whether this owner held it under this fencing
    /// number. If not, nothing changes.
    async fn end_lease_in(
        &self,
        name: &str,
        owner: Uuid,
        fencing: u64,
        ends_in: Duration,
    ) -> Result<bool, StoreError>;

    /// Deletes leases of locks that ended longer than `ended_for` ago: the first `limit` of them after the row
    /// `after`, in the order of their names. The fencing numbers of a deleted name continue from the clock, so
    /// `ended_for` must be longer than the clock may ever go back.
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
