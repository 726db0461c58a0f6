//! Rows of the outbox.

use std::ops::Range;

use super::{
    Columns,
    columns::{optional_timestamp, small, timestamp, trace, unsigned, uuid},
};
use crate::{
    engine::Timestamp,
    envelope::OutboxEvent,
    store::{
        StoreError,
        outbox::{Backlog, OutboxRow, OutboxState, WaitingRow},
    },
};

/// Decodes `id, event_id, shard, event_key, key_version, type, payload, created_at, traceparent`, and the failed
/// attempts of its key, which are NULL if the key is not blocked.
pub(in crate::store) fn outbox_event(row: &impl Columns) -> Result<OutboxEvent, StoreError> {
    Ok(OutboxEvent {
        id: row.integer(0)?,
        event_id: uuid(row, 1)?,
        shard: small(row, 2)?,
        key: row.text(3)?.to_owned(),
        version: unsigned(row, 4)?,
        kind: row.text(5)?.to_owned(),
        payload: row.text(6)?.to_owned(),
        created_at: possible(row.integer(7)?),
        trace: trace(row, 8)?,
        attempts: row.optional_integer(9)?.map_or(Ok(0), |_| small(row, 9))?,
        blocked: row.optional_integer(9)?.is_some(),
    })
}

/// The nearest possible time. An event whose time somebody damaged is published with it: if it could not be decoded, no
/// other event could be published, and its key's later events must not overtake it.
fn possible(micros: i64) -> Timestamp {
    let nearest = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(nearest)
}

/// Decodes an event as [`outbox_event`] does, followed by whether its key waits after a failure, and the size of its
/// payload.
pub(in crate::store) fn waiting_row(row: &impl Columns) -> Result<WaitingRow, StoreError> {
    Ok(WaitingRow { event: outbox_event(row)?, waits: row.integer(10)? != 0, bytes: unsigned(row, 11)? })
}

/// Decodes an event as [`outbox_event`] does, followed by `published_at, parked, blocked_until, reason`; the last
/// three are NULL if its key is not blocked.
pub(in crate::store) fn outbox_row(row: &impl Columns, now: Timestamp) -> Result<OutboxRow, StoreError> {
    let published_at = optional_timestamp(row, 10)?;
    let parked = row.optional_integer(11)?;
    let blocked_until = optional_timestamp(row, 12)?;
    let state = match (published_at, parked, blocked_until) {
        (Some(_), ..) => OutboxState::Published,
        (None, Some(1), _) => OutboxState::Parked,
        (None, Some(_), Some(until)) if until > now => OutboxState::Blocked,
        _ => OutboxState::Waiting,
    };
    let blocked_until = blocked_until.filter(|_| state == OutboxState::Blocked);
    let failing = matches!(state, OutboxState::Blocked | OutboxState::Parked);
    let reason = row.optional_text(13)?.filter(|_| failing).map(str::to_owned);
    Ok(OutboxRow { event: outbox_event(row)?, state, published_at, blocked_until, reason })
}

/// A page of the outbox: the ids of published events that happened in a range, and where the next page starts.
pub(in crate::store) struct RepublishPage {
    pub(in crate::store) ids: Vec<i64>,
    pub(in crate::store) next: Option<i64>,
}

/// Decodes `id, created_at, published_at` in id order; `published_at` must be NULL for a skipped event too.
pub(in crate::store) fn republish_page<R: Columns>(
    rows: &[R],
    happened: Range<Timestamp>,
    limit: u32,
) -> Result<RepublishPage, StoreError> {
    let mut page = RepublishPage { ids: Vec::new(), next: None };
    for row in rows {
        let id = row.integer(0)?;
        if happened.contains(&timestamp(row, 1)?) && row.optional_integer(2)?.is_some() {
            page.ids.push(id);
        }
        page.next = Some(id).filter(|_| rows.len() == limit as usize);
    }
    Ok(page)
}

/// Decodes `COUNT(*), MIN(created_at)` of unpublished events, then `COUNT(*), SUM(parked)` of blocked keys.
pub(in crate::store) fn backlog(
    unpublished: &impl Columns,
    blocked: &impl Columns,
    now: Timestamp,
) -> Result<Backlog, StoreError> {
    let parked = u64::try_from(blocked.optional_integer(1)?.unwrap_or(0)).unwrap_or(0);
    Ok(Backlog {
        now,
        unpublished: unsigned(unpublished, 0)?,
        oldest: optional_timestamp(unpublished, 1)?,
        blocked: unsigned(blocked, 0)?.saturating_sub(parked),
        parked,
    })
}
