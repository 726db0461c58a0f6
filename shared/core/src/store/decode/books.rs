//! Rows of resources and reservations.

use std::sync::Arc;

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

/// Decodes the id of a resource.
pub(in crate::store) fn resource_id(row: &impl Columns, column: usize) -> Result<ResourceId, StoreError> {
    ResourceId::new("resource_id", row.text(column)?)
        .map_err(|violation| corrupt(format!("a resource's id: {violation}")))
}

/// Decodes `token, expires_at` of holds in the order in which they end, up to one more than `limit`. The first hold
/// that is not overdue, or that exceeds the limit, gives the time to look again.
pub(in crate::store) fn due<R: Columns>(rows: &[R], limit: u32, now: Timestamp) -> Result<Due, StoreError> {
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
