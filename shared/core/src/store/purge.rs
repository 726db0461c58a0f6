//! The rule of what may be purged, for every back end.
//!
//! A COMMITTED reservation is never purged, because its units are sold (I1), and a HELD one never, because it is not
//! over. A reservation that ended is deleted, with its idempotency key, once it is old and all its events are
//! published. Published events are deleted once they are old.

use std::{collections::HashSet, time::Duration};

use super::{
    StoreError,
    decode::{self, Columns},
};
use crate::engine::{Status, Timestamp, Token};

/// With this many old events unpublished, the event log is so far behind that no reservation is purged.
pub(super) const UNPUBLISHED_MAX: u32 = 10_000;

/// The result of a step of purging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records that were deleted.
    pub deleted: u64,
    /// The token after which the next step starts; `None` if nothing is left to consider.
    pub next: Option<Token>,
    /// Whether all reservations that were considered and not deleted are COMMITTED, which are never deleted.
    pub only_committed_left: bool,
}

/// The instant that lies `span` before `now`.
pub(super) fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// The decision about one page of reservations.
#[derive(Debug, Default)]
pub(super) struct PurgePage {
    /// Reservations to delete.
    pub(super) tokens: Vec<Token>,
    /// The token after which the next page starts.
    pub(super) next: Option<Token>,
    /// Whether all other reservations of the page are COMMITTED.
    only_committed_left: bool,
}

impl PurgePage {
    /// The result of a step that deleted the chosen reservations.
    pub(super) fn purged(&self) -> Purged {
        Purged {
            deleted: self.tokens.len() as u64,
            next: self.next,
            only_committed_left: self.only_committed_left,
        }
    }
}

/// Chooses, from rows of `token, status, created_at, updated_at` in token order, the reservations that ended before
/// `cutoff` and have no events in `unpublished`. Tokens are ordered by creation, apart from the differences of the
/// clocks of the processes that drew them: a page on which nothing is old enough is the last.
pub(super) fn page<R: Columns>(
    rows: &[R],
    limit: u32,
    cutoff: Timestamp,
    unpublished: &HashSet<String>,
) -> Result<PurgePage, StoreError> {
    let mut page = PurgePage { only_committed_left: true, ..PurgePage::default() };
    let mut any_old = false;
    let cutoff = cutoff.as_microsecond();
    for row in rows {
        let token = decode::token(row)?;
        page.next = Some(token);
        // A row that cannot be decoded is kept, and does not keep others from being purged.
        let (Ok(status), Ok(created_at), Ok(updated_at)) = (row.text(1), row.integer(2), row.integer(3))
        else {
            continue;
        };
        let status = Status::parse(status);
        let ended = status.is_some_and(|status| !status.takes_stock());
        any_old |= created_at < cutoff;
        if ended && updated_at < cutoff && !unpublished.contains(&token.to_string()) {
            page.tokens.push(token);
        } else {
            page.only_committed_left &= status == Some(Status::Committed);
        }
    }
    if !any_old || rows.len() < limit as usize {
        page.next = None;
    }
    Ok(page)
}

/// The keys of events that were written before `cutoff`, from the first rows of `event_key, created_at` of
/// unpublished events; `None` if there are so many that there may be more.
pub(super) fn unpublished<R: Columns>(
    rows: &[R],
    cutoff: Timestamp,
) -> Result<Option<HashSet<String>>, StoreError> {
    let mut keys = HashSet::new();
    let mut all_old = true;
    for row in rows {
        if row.integer(1)? < cutoff.as_microsecond() {
            keys.insert(row.text(0)?.to_owned());
        } else {
            all_old = false;
        }
    }
    Ok((!all_old || rows.len() < UNPUBLISHED_MAX as usize).then_some(keys))
}
