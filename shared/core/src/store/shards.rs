//! Decides which relay holds which shard, for every back end, on rows of the table of leases that are locked
//! meanwhile (`leases.rs`).
//!
//! A relay is alive as long as its own row is; with n live relays none holds more than ceil(64 / n) shards. A relay
//! that is too late to renew gets a new fencing number, and what it did under the old one no longer counts. Never:
//! I/O, or a clock other than the store's.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::leases::{LeaseRow, next_fencing, until};
use crate::engine::Timestamp;

/// How many shards the outbox has. Relays share the outbox in units of a shard.
pub(super) const SHARDS: u8 = 64;

/// The shard of an event key: the same on every version, machine and database.
pub(super) fn shard(key: &str) -> u8 {
    blake3::hash(key.as_bytes()).as_bytes()[0] % SHARDS
}

/// The row that all relays lock, and that counts fencing numbers. It sorts first, and the names of all other rows of
/// relays begin with its name.
pub(super) const ALL: &str = "relay";
const MEMBER: &str = "relay/member/";
const SHARD: &str = "relay/shard/";

/// The shards that a relay holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    /// Its fencing number: higher than that of every earlier holder of these shards.
    pub fencing: u64,
    /// The shards, in order.
    pub shards: Vec<u8>,
    /// The number of live relays.
    pub relays: usize,
    /// Shards that other relays hold, and may still have to release.
    pub held_by_others: usize,
}

/// The rows to write, and what the relay then holds.
#[derive(Debug)]
pub(super) struct Decision {
    /// Rows to insert or overwrite.
    pub(super) write: Vec<LeaseRow>,
    /// Names of rows to delete.
    pub(super) delete: Vec<String>,
    pub(super) leases: Leases,
}

/// The name of a shard's row.
pub(super) fn shard_name(shard: u8) -> String {
    format!("{SHARD}{shard:02}")
}

/// Decides, from all rows of relays, what a relay holds from `now` on.
pub(super) fn renew(
    rows: Vec<LeaseRow>,
    relay: Uuid,
    fencing: Option<u64>,
    now: Timestamp,
    lease_for: Duration,
) -> Decision {
    let mut rows: BTreeMap<String, LeaseRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    let until = until(now, lease_for);
    let mut write = Vec::new();
    let me = format!("{MEMBER}{relay}");
    let alive = |row: &LeaseRow| row.is_alive(now);

    // A lease that has expired is not renewed, because others may have acted on its expiry.
    let still =
        fencing.filter(|fencing| rows.get(&me).is_some_and(|row| alive(row) && row.fencing == *fencing));
    let fencing = still.unwrap_or_else(|| {
        let fencing = next_fencing(rows.get(ALL).map(|row| row.fencing), now);
        write.push(LeaseRow { name: ALL.to_owned(), owner: None, fencing, expires_at: now });
        fencing
    });
    rows.insert(me.clone(), LeaseRow { name: me.clone(), owner: Some(relay), fencing, expires_at: until });
    write.extend(rows.get(&me).cloned());

    let members = rows.values().filter(|row| row.name.starts_with(MEMBER));
    let delete = members.clone().filter(|row| !alive(row)).map(|row| row.name.clone()).collect();
    let relays = members.filter(|row| alive(row)).count();
    let share = usize::from(SHARDS).div_ceil(relays);

    let (mut mine, mut free, mut held_by_others) = (Vec::new(), Vec::new(), 0);
    for shard in 0..SHARDS {
        match rows
            .get(&shard_name(shard))
            .filter(|row| alive(row))
            .and_then(|row| Some((row.owner?, row.fencing)))
        {
            Some((owner, number)) if owner == relay && number == fencing => mine.push(shard),
            // The shard is this relay's own from before it froze: free for the first relay that comes.
            Some((owner, _)) if owner == relay => free.push(shard),
            Some(_) => held_by_others += 1,
            None => free.push(shard),
        }
    }
    for shard in mine.split_off(mine.len().min(share)) {
        write.push(LeaseRow { name: shard_name(shard), owner: None, fencing, expires_at: now });
    }
    let wanted = share - mine.len();
    mine.extend(free.into_iter().take(wanted));
    mine.sort_unstable();
    for shard in &mine {
        write.push(LeaseRow { name: shard_name(*shard), owner: Some(relay), fencing, expires_at: until });
    }
    Decision { write, delete, leases: Leases { fencing, shards: mine, relays, held_by_others } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of leases on which relays renew, and its clock.
    struct Table {
        rows: BTreeMap<String, LeaseRow>,
        now: Timestamp,
    }

    impl Table {
        fn renew(&mut self, relay: u128, fencing: Option<u64>) -> Leases {
            let rows = self.rows.values().cloned().collect();
            let decision = renew(rows, Uuid::from_u128(relay), fencing, self.now, Duration::from_secs(10));
            for name in decision.delete {
                self.rows.remove(&name);
            }
            self.rows.extend(decision.write.into_iter().map(|row| (row.name.clone(), row)));
            decision.leases
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    fn table() -> Table {
        Table { rows: BTreeMap::new(), now: "2026-01-01T00:00:00Z".parse().unwrap() }
    }

    #[test]
    fn relays_share_the_shards_and_none_has_two_owners() {
        let mut table = table();
        let first = table.renew(1, None);
        assert_eq!(first.shards.len(), 64);
        let second = table.renew(2, None);
        assert_eq!((second.shards.len(), second.held_by_others), (0, 64));
        assert_eq!(table.renew(1, Some(first.fencing)).shards.len(), 32);
        let second = table.renew(2, Some(second.fencing));
        assert_eq!(second.shards.len(), 32);
        let third = table.renew(3, None);
        let (one, two) = (table.renew(1, Some(first.fencing)), table.renew(2, Some(second.fencing)));
        let three = table.renew(3, Some(third.fencing));
        let mut all: Vec<u8> = [&one, &two, &three].iter().flat_map(|leases| leases.shards.clone()).collect();
        assert!([&one, &two, &three].iter().all(|leases| leases.shards.len() <= 22 && leases.relays == 3));
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<u8>>());
    }

    #[test]
    fn a_relay_that_renews_too_late_gets_a_new_number_and_has_lost_its_shards() {
        let mut table = table();
        let first = table.renew(1, None);
        table.pass(11);
        // Its shards are free at once, and its row is gone.
        let second = table.renew(2, None);
        assert_eq!((second.shards.len(), second.relays), (64, 1));
        assert!(second.fencing > first.fencing);
        let late = table.renew(1, Some(first.fencing));
        assert!(late.fencing > second.fencing);
        assert_eq!(late.shards, Vec::<u8>::new());
    }

    #[test]
    fn a_lone_relay_that_renews_too_late_starts_again() {
        let mut table = table();
        let first = table.renew(1, None);
        table.pass(11);
        let again = table.renew(1, Some(first.fencing));
        assert!(again.fencing > first.fencing);
        assert_eq!(again.shards.len(), 64);
    }
}
