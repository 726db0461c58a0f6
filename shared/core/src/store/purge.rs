//! What may be forgotten: the one rule for every back end.
//!
//! COMMITTED is never purged, because its units are sold (I1), and HELD never, because it is not over. What ended is
//! forgotten, with its idempotency key, once it is old and all its events are published. Published events are forgotten
//! once they are old.

use std::{collections::HashSet, time::Duration};

use super::{
    StoreError,
    decode::{self, Cells},
};
use crate::engine::{Status, Timestamp, Token};

/// With so many old events that were not published yet, reservations are kept: the event log is far behind.
pub(super) const UNPUBLISHED_MAX: u32 = 10_000;

/// What a step of purging did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records that were deleted.
    pub deleted: u64,
    /// Where to go on; `None` where nothing is left to look at.
    pub next: Option<Token>,
}

/// The instant that lies `span` before `now`.
pub(super) fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// A look at one page of reservations.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Those to delete.
    pub(super) tokens: Vec<Token>,
    /// Where the next page begins.
    pub(super) next: Option<Token>,
}

/// Chooses, from rows of `token, status, created_at, updated_at` in token order, those that ended before `cutoff` and have
/// no events in `unpublished`. Tokens are in the order of their creation, give or take the clocks of those who drew them:
/// a page on which nothing is old enough is the last.
pub(super) fn page<R: Cells>(
    rows: &[R],
    limit: u32,
    cutoff: Timestamp,
    unpublished: &HashSet<String>,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let mut any_old = false;
    for row in rows {
        let token = decode::token(row)?;
        let status = row.text(1)?;
        let ended = Status::parse(status).is_some_and(|status| !status.takes_stock());
        any_old |= decode::timestamp(row, 2)? < cutoff;
        if ended && decode::timestamp(row, 3)? < cutoff && !unpublished.contains(&token.to_string()) {
            page.tokens.push(token);
        }
        page.next = Some(token);
    }
    if !any_old || rows.len() < limit as usize {
        page.next = None;
    }
    Ok(page)
}

/// The keys of events that were written before `cutoff`, from the first rows of `event_key, created_at` that await
/// publication; `None` where so many do that there may be more.
pub(super) fn unpublished<R: Cells>(
    rows: &[R],
    cutoff: Timestamp,
) -> Result<Option<HashSet<String>>, StoreError> {
    let mut keys = HashSet::new();
    let mut all_old = true;
    for row in rows {
        if decode::timestamp(row, 1)? < cutoff {
            keys.insert(row.text(0)?.to_owned());
        } else {
            all_old = false;
        }
    }
    Ok((!all_old || rows.len() < UNPUBLISHED_MAX as usize).then_some(keys))
}
