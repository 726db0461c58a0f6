//! Rows into records, the same for every dialect. A row that the engine could not have written is reported, never
//! repaired.

use std::{ops::Range, sync::Arc};

use uuid::Uuid;

use super::{
    DeadLetter, DeadLetterId, Due, StoreError, StoredDeadLetter, leases,
    outbox::{Backlog, OutboxRow, OutboxState},
};
use crate::{
    effects::{SmartKey, Subscription},
    engine::{
        Fingerprint, Fulfilment, Holder, IdempotencyKey, Item, Items, Metadata, Quantity, Reservation,
        Resource, ResourceId, Status, Timestamp, Token,
    },
    envelope::{Origin, OutboxEvent, Record},
    trace::TraceContext,
    webhooks::EventFilter,
};

/// The cells of a row, as a dialect's driver gives them. Columns are counted from 0.
pub(super) trait Cells {
    /// A whole number.
    fn integer(&self, column: usize) -> Result<i64, StoreError>;

    /// A whole number or NULL.
    fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError>;

    /// Text or NULL.
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError>;

    /// Bytes or NULL.
    fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError>;

    /// Bytes.
    fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }

    /// Text.
    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }
}

/// `id, total, available, version, fulfilment, created_at, updated_at`.
pub(super) fn resource(row: &impl Cells) -> Result<Resource, StoreError> {
    let id = row.text(0)?;
    let wrong = |what: String| corrupt(format!("resource {id}: {what}"));
    Ok(Resource {
        id: ResourceId::new("id", id).map_err(|violation| wrong(violation.to_string()))?,
        total: unsigned(row, 1)?,
        available: unsigned(row, 2)?,
        version: unsigned(row, 3)?,
        fulfilment: Fulfilment::parse("fulfilment", row.text(4)?)
            .map_err(|violation| wrong(violation.to_string()))?,
        created_at: timestamp(row, 5)?,
        updated_at: timestamp(row, 6)?,
    })
}

/// `token, item_no, resource_id, quantity, status, version, created_at, expires_at, updated_at, idempotency_key,
/// fingerprint, holder, metadata` of each item; the items of one reservation side by side, in the order of their numbers.
pub(super) fn reservations<R: Cells>(rows: &[R]) -> Result<Vec<Reservation>, StoreError> {
    let mut reservations = Vec::with_capacity(rows.len());
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let token = token(first)?;
        let mut count = 1;
        while let Some(next) = rest.get(count) {
            if self::token(next)? != token {
                break;
            }
            count += 1;
        }
        let (items, others) = rest.split_at(count);
        reservations.push(reservation(token, first, items)?);
        rest = others;
    }
    Ok(reservations)
}

fn reservation<R: Cells>(token: Token, first: &R, rows: &[R]) -> Result<Reservation, StoreError> {
    let wrong = |what: String| corrupt(format!("reservation {token}: {what}"));
    let status = first.text(4)?;
    let key = first.text(9)?;
    let fingerprint = first.bytes(10)?;
    let holder = first.optional_text(11)?;
    let metadata = first.optional_text(12)?.map(str::to_owned);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(Item {
            resource_id: ResourceId::new("resource_id", row.text(2)?)
                .map_err(|violation| wrong(violation.to_string()))?,
            quantity: Quantity::new("quantity", unsigned(row, 3)?)
                .map_err(|violation| wrong(violation.to_string()))?,
        });
    }
    Ok(Reservation {
        token,
        items: Items::from_stored(items).map_err(|violation| wrong(violation.to_string()))?,
        status: Status::parse(status).ok_or_else(|| wrong(format!("status {status:?}")))?,
        holder: holder.map(Holder::new).transpose().map_err(|violation| wrong(violation.to_string()))?,
        metadata: metadata
            .map(Metadata::from_canonical)
            .transpose()
            .map_err(|error| wrong(format!("metadata: {error}")))?
            .map(Arc::new),
        key: IdempotencyKey::new(key).map_err(|violation| wrong(violation.to_string()))?,
        fingerprint: Fingerprint::from_bytes(
            fingerprint.try_into().map_err(|_| wrong("fingerprint is not 16 bytes".to_owned()))?,
        ),
        version: unsigned(first, 5)?,
        created_at: timestamp(first, 6)?,
        expires_at: timestamp(first, 7)?,
        updated_at: timestamp(first, 8)?,
    })
}

/// The id of a resource.
pub(super) fn resource_id(row: &impl Cells, column: usize) -> Result<ResourceId, StoreError> {
    ResourceId::new("resource_id", row.text(column)?)
        .map_err(|violation| corrupt(format!("a resource's id: {violation}")))
}

/// `token, expires_at` of holds in the order in which they end, one more than `limit` where there are so many: those that
/// are overdue, and when to look again, which the first other one says.
pub(super) fn due<R: Cells>(rows: &[R], limit: u32, now: Timestamp) -> Result<Due, StoreError> {
    let mut due = Due { now, tokens: Vec::new(), next: None };
    for row in rows {
        let expires_at = timestamp(row, 1)?;
        if expires_at > now || due.tokens.len() == limit as usize {
            due.next = Some(expires_at);
            break;
        }
        due.tokens.push(token(row)?);
    }
    Ok(due)
}

/// `id, event_id, shard, event_key, key_version, type, payload, created_at, traceparent`, and the attempts of its key, NULL
/// where that did not fail.
pub(super) fn outbox_event(row: &impl Cells) -> Result<OutboxEvent, StoreError> {
    Ok(OutboxEvent {
        id: row.integer(0)?,
        event_id: uuid(row, 1)?,
        shard: small(row, 2)?,
        key: row.text(3)?.to_owned(),
        version: unsigned(row, 4)?,
        kind: row.text(5)?.to_owned(),
        payload: row.text(6)?.to_owned(),
        created_at: timestamp(row, 7)?,
        trace: trace(row, 8)?,
        attempts: row.optional_integer(9)?.map_or(Ok(0), |_| small(row, 9))?,
        blocked: row.optional_integer(9)?.is_some(),
    })
}

/// An event as above, and `published_at, parked, blocked_until, reason`; the last three are NULL where its key is not
/// blocked.
pub(super) fn outbox_row(row: &impl Cells, now: Timestamp) -> Result<OutboxRow, StoreError> {
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

/// A page of the outbox: the ids of published events that happened in a range, and where the next page begins.
pub(super) struct ReplayPage {
    pub(super) ids: Vec<i64>,
    pub(super) next: Option<i64>,
}

/// `id, created_at, published_at` in id order; the last is NULL also where the event was skipped.
pub(super) fn replay_page<R: Cells>(
    rows: &[R],
    happened: Range<Timestamp>,
    limit: u32,
) -> Result<ReplayPage, StoreError> {
    let mut page = ReplayPage { ids: Vec::new(), next: None };
    for row in rows {
        let id = row.integer(0)?;
        if happened.contains(&timestamp(row, 1)?) && row.optional_integer(2)?.is_some() {
            page.ids.push(id);
        }
        page.next = Some(id).filter(|_| rows.len() == limit as usize);
    }
    Ok(page)
}

/// `name, owner, fencing, expires_at`.
pub(super) fn lease(row: &impl Cells) -> Result<leases::Row, StoreError> {
    let owner = row.optional_bytes(1)?.map(Uuid::from_slice).transpose();
    Ok(leases::Row {
        name: row.text(0)?.to_owned(),
        owner: owner.map_err(|error| corrupt(format!("the owner of a lease: {error}")))?,
        fencing: unsigned(row, 2)?,
        expires_at: timestamp(row, 3)?,
    })
}

/// `COUNT(*), MIN(created_at)` of what is unpublished; then `COUNT(*), SUM(parked)` of blocked keys.
pub(super) fn backlog(
    unpublished: &impl Cells,
    blocked: &impl Cells,
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

/// `id, source, part, position, event_key, headers, value, reason, attempts, created_at`.
pub(super) fn letter(row: &impl Cells) -> Result<StoredDeadLetter, StoreError> {
    let number = row.integer(0)?;
    let headers: Vec<(String, String)> = serde_json::from_str(row.text(5)?)
        .map_err(|error| corrupt(format!("the headers of dead letter {number}: {error}")))?;
    let record = Record {
        key: row.optional_bytes(4)?.map(<[u8]>::to_vec),
        headers: headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        value: row.optional_bytes(6)?.map(<[u8]>::to_vec),
        origin: Origin { topic: row.text(1)?.into(), partition: small(row, 2)?, offset: row.integer(3)? },
    };
    Ok(StoredDeadLetter {
        id: DeadLetterId { partition: 0, offset: number },
        letter: DeadLetter { record, reason: row.text(7)?.to_owned(), attempts: small(row, 8)? },
        created_at: timestamp(row, 9)?,
    })
}

/// The headers of a record, as they are stored.
pub(super) fn headers_text(record: &Record) -> String {
    let headers = record.headers.iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name, String::from_utf8_lossy(value))).collect();
    serde_json::json!(headers).to_string()
}

/// `id, event_types` of webhook endpoints. One whose filter this build does not understand (it may be of a later one) is
/// told nothing, and keeps nobody else from being told.
pub(super) fn subscriptions<R: Cells>(rows: &[R]) -> Result<Vec<Subscription>, StoreError> {
    let mut subscriptions = Vec::with_capacity(rows.len());
    for row in rows {
        let endpoint_id = uuid(row, 0)?;
        match EventFilter::parse(row.text(1)?) {
            Ok(filter) => subscriptions.push(Subscription { endpoint_id, filter }),
            Err(violation) => {
                tracing::error!(%endpoint_id, %violation, "a webhook endpoint's filter is not understood: it is told nothing");
            }
        }
    }
    Ok(subscriptions)
}

/// `part, position`.
pub(super) fn letter_id(row: &impl Cells) -> Result<DeadLetterId, StoreError> {
    Ok(DeadLetterId { partition: small(row, 0)?, offset: row.integer(1)? })
}

/// `token, version, code, issued_at, revoked_at`.
pub(super) fn smart_key(row: &impl Cells) -> Result<SmartKey, StoreError> {
    let token = token(row)?;
    let wrong = || corrupt(format!("the key of reservation {token} is not 16 bytes with a time"));
    let code = row.optional_bytes(2)?.map(<[u8; 16]>::try_from).transpose().map_err(|_| wrong())?;
    let issued = match (code, optional_timestamp(row, 3)?) {
        (Some(code), Some(at)) => Some((code, at)),
        (None, None) => None,
        _ => return Err(wrong()),
    };
    Ok(SmartKey { token, version: unsigned(row, 1)?, issued, revoked_at: optional_timestamp(row, 4)? })
}

/// The token in column 0.
pub(super) fn token(row: &impl Cells) -> Result<Token, StoreError> {
    uuid(row, 0).map(Token::from_uuid)
}

/// A UUID.
pub(super) fn uuid(row: &impl Cells, column: usize) -> Result<Uuid, StoreError> {
    Uuid::from_slice(row.bytes(column)?)
        .map_err(|error| corrupt(format!("an id in column {column}: {error}")))
}

/// A `traceparent`; none where there is none, or where this build cannot read it: nothing rests on it.
pub(super) fn trace(row: &impl Cells, column: usize) -> Result<Option<TraceContext>, StoreError> {
    Ok(row.optional_text(column)?.and_then(TraceContext::parse))
}

/// A whole number that fits a small type.
fn small<T: TryFrom<i64>>(row: &impl Cells, column: usize) -> Result<T, StoreError> {
    let value = row.integer(column)?;
    T::try_from(value).map_err(|_| corrupt(format!("a number out of range in column {column}: {value}")))
}

pub(super) fn unsigned(row: &impl Cells, column: usize) -> Result<u64, StoreError> {
    let value = row.integer(column)?;
    u64::try_from(value).map_err(|_| corrupt(format!("a negative number in column {column}: {value}")))
}

pub(super) fn timestamp(row: &impl Cells, column: usize) -> Result<Timestamp, StoreError> {
    micros(row.integer(column)?)
}

/// A time or NULL.
pub(super) fn optional_timestamp(row: &impl Cells, column: usize) -> Result<Option<Timestamp>, StoreError> {
    row.optional_integer(column)?.map(micros).transpose()
}

pub(super) fn micros(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt(format!("a time: {error}")))
}

pub(super) fn corrupt(what: String) -> StoreError {
    StoreError::Corrupt { what }
}

/// A column that is not there, or of another type than this version writes.
pub(super) fn unreadable(error: sqlx::Error) -> StoreError {
    corrupt(format!("a row does not have this version's shape: {error}"))
}
