//! Rows of resources and reservations.

use std::{collections::HashMap, sync::Arc};

use super::{
    Columns,
    columns::{corrupt, timestamp, token, unsigned},
};
use crate::{
    engine::{
        Fingerprint, Fulfilment, Holder, IdempotencyKey, Item, Items, Metadata, Quantity, Reservation,
        Resource, ResourceId, Status, Timestamp, Token,
    },
    store::{Due, StoreError},
};

/// Decodes `id, total, available, version, fulfilment, created_at, updated_at`.
pub(in crate::store) fn resource(row: &impl Columns) -> Result<Resource, StoreError> {
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

/// Decodes one row for each item: `token, item_no, resource_id, quantity, status, version, created_at, expires_at,
/// updated_at, idempotency_key, fingerprint, holder, metadata`. The items of one reservation must be next to each
/// other, in the order of their numbers.
pub(in crate::store) fn reservations<R: Columns>(rows: &[R]) -> Result<Vec<Reservation>, StoreError> {
    let mut reservations = Vec::with_capacity(rows.len());
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let token = token(first)?;
        let mut count = 1;
        while let Some(next) = rest.get(count) {
            if super::columns::token(next)? != token {
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

fn reservation<R: Columns>(token: Token, first: &R, rows: &[R]) -> Result<Reservation, StoreError> {
    let wrong = |what: String| corrupt(format!("reservation {token}: {what}"));
    let status = first.text(4)?;
    let key = first.text(9)?;
    let fingerprint = first.bytes(10)?;
    let holder = first.optional_text(11)?;
    let metadata = first.optional_text(12)?.map(str::to_owned);
    let mut items = Vec::with_capacity(rows.len());
    for (item_no, row) in rows.iter().enumerate() {
        belongs_to(first, row, item_no).map_err(|what| wrong(format!("item {item_no}: {what}")))?;
        items.push(Item {
            resource_id: ResourceId::new("resource_id", row.text(2)?)
                .map_err(|violation| wrong(violation.to_string()))?,
            quantity: Quantity::new("quantity", unsigned(row, 3)?)
                .map_err(|violation| wrong(violation.to_string()))?,
        });
    }
    let items = Items::from_stored(items).map_err(|violation| wrong(violation.to_string()))?;
    if items.len() != rows.len() {
        return Err(wrong(format!("{} rows have {} resources", rows.len(), items.len())));
    }
    Ok(Reservation {
        token,
        items,
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

/// Compares what all rows of a reservation have in common. A change finds its rows by status and version, so a row that
/// differs would make every change of its reservation fail.
fn belongs_to(first: &impl Columns, row: &impl Columns, item_no: usize) -> Result<(), String> {
    let read = |row: &dyn Fn(usize) -> Result<i64, StoreError>| -> Result<Vec<i64>, StoreError> {
        (5..=8).map(row).collect()
    };
    let same = || -> Result<bool, StoreError> {
        let numbers = read(&|column| first.integer(column))? == read(&|column| row.integer(column))?;
        Ok(numbers && first.text(4)? == row.text(4)?)
    };
    if usize::try_from(row.integer(1).map_err(text)?) != Ok(item_no) {
        return Err("the items are not numbered from 0 without a gap".to_owned());
    }
    if !same().map_err(text)? {
        return Err("its status, version or times are not those of item 0".to_owned());
    }
    let of_the_whole = || -> Result<bool, StoreError> {
        Ok(row.optional_text(9)?.is_some()
            || row.optional_bytes(10)?.is_some()
            || row.optional_text(11)?.is_some()
            || row.optional_text(12)?.is_some())
    };
    if item_no > 0 && of_the_whole().map_err(text)? {
        return Err("it has a key, fingerprint, holder or metadata, which belong to item 0".to_owned());
    }
    Ok(())
}

fn text(error: StoreError) -> String {
    error.to_string()
}

/// Decodes the id of a resource.
pub(in crate::store) fn resource_id(row: &impl Columns, column: usize) -> Result<ResourceId, StoreError> {
    ResourceId::new("resource_id", row.text(column)?)
        .map_err(|violation| corrupt(format!("a resource's id: {violation}")))
}

/// Decodes `token, expires_at` of holds in the order in which they end, up to one more than `limit`. The first hold
/// that is not overdue, or that exceeds the limit, gives the time to look again.
///
/// A hold with an impossible time is overdue or not, like any number; the command that expires it reports the damage.
pub(in crate::store) fn due<R: Columns>(rows: &[R], limit: u32, now: Timestamp) -> Result<Due, StoreError> {
    let mut due = Due { now, tokens: Vec::new(), next: None };
    for row in rows {
        let expires_at = row.integer(1)?;
        if expires_at > now.as_microsecond() || due.tokens.len() == limit as usize {
            due.next = next_end(Some(expires_at));
            break;
        }
        due.tokens.extend(token(row));
    }
    Ok(due)
}

/// Decodes when the next hold ends; `None` too if it is an impossible time, because others must not fail for it.
pub(in crate::store) fn next_end(micros: Option<i64>) -> Option<Timestamp> {
    micros.and_then(|micros| super::micros(micros).ok())
}

/// Decodes `token, resource_id` of first items. A row that cannot be decoded is left out: its reservation is reported
/// by the command that names it.
pub(in crate::store) fn first_resources<'r, R: Columns + 'r>(
    rows: impl IntoIterator<Item = &'r R>,
) -> HashMap<Token, ResourceId> {
    rows.into_iter().filter_map(|row| Some((token(row).ok()?, resource_id(row, 1).ok()?))).collect()
}
