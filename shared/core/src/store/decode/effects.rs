//! Rows that effects read: subscriptions and SmartKeys.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    Columns,
    books::resource_id,
    columns::{corrupt, optional_timestamp, token, unsigned, uuid},
};
use crate::{
    effects::{SmartKey, Subscription},
    engine::{Fulfilment, ResourceId, Status, Token},
    store::StoreError,
    webhooks::EventFilter,
};

/// Decodes `id, event_types` of webhook endpoints. An endpoint whose filter this build does not understand (a later
/// version may have written it) receives nothing, and does not affect other endpoints. `full` has the ids of the
/// endpoints that have too many deliveries pending.
pub(in crate::store) fn subscriptions<R: Columns>(
    rows: &[R],
    full: &[R],
) -> Result<Vec<Subscription>, StoreError> {
    let full: HashSet<Uuid> = full.iter().map(|row| uuid(row, 0)).collect::<Result<_, _>>()?;
    let mut subscriptions = Vec::with_capacity(rows.len());
    for row in rows {
        let endpoint_id = uuid(row, 0)?;
        match EventFilter::parse(row.text(1)?) {
            Ok(filter) => {
                let is_full = full.contains(&endpoint_id);
                subscriptions.push(Subscription { endpoint_id, filter, is_full });
            }
            Err(violation) => {
                tracing::error!(
                    %endpoint_id, %violation,
                    "the filter of a webhook endpoint is not understood: the endpoint receives no events"
                );
            }
        }
    }
    Ok(subscriptions)
}

/// Decodes `id, event_types` of a webhook endpoint and an event id; `None` if this build does not understand the
/// filter.
pub(in crate::store) fn missing_delivery<R: Columns>(
    row: &R,
) -> Result<Option<(Uuid, Subscription)>, StoreError> {
    let event_id = uuid(row, 2)?;
    Ok(subscriptions(std::slice::from_ref(row), &[])?.pop().map(|endpoint| (event_id, endpoint)))
}

/// Decodes `id, version, fulfilment` of a resource: its id, its version, and whether a key opens it.
pub(in crate::store) fn known_resource(row: &impl Columns) -> Result<(ResourceId, u64, bool), StoreError> {
    Ok((resource_id(row, 0)?, unsigned(row, 1)?, row.text(2)? == Fulfilment::SmartKey.as_str()))
}

/// A reservation, its status and its version.
type KnownReservation = (Token, (Status, u64));

/// Decodes `token, status, version` of a reservation; `None` if this build does not know the status, which a later
/// version may have written.
pub(in crate::store) fn known_reservation(
    row: &impl Columns,
) -> Result<Option<KnownReservation>, StoreError> {
    let version = unsigned(row, 2)?;
    Ok(Status::parse(row.text(1)?).zip(Some(token(row)?)).map(|(status, token)| (token, (status, version))))
}

/// Decodes `token, version, code, issued_at, revoked_at`.
pub(in crate::store) fn smart_key(row: &impl Columns) -> Result<SmartKey, StoreError> {
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
