//! Rows of webhook endpoints and deliveries.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use crate::{
    engine::{Timestamp, Violation},
    store::{
        StoreError,
        decode::{
            Columns,
            columns::{corrupt, micros, timestamp, trace, unsigned},
        },
        webhooks::{Claimed, DeliveryPage},
    },
    webhooks::{
        Delivery, DeliveryId, DeliveryStatus, Disabled, Endpoint, EndpointId, EndpointOrigin, EndpointUrl,
        EventFilter, PreviousSecret, Receiver, Secret,
    },
};

/// Decodes `id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason, disabled_at,
/// created_at, updated_at`.
pub(in crate::store) fn endpoint(row: &impl Columns) -> Result<Endpoint, StoreError> {
    let id = endpoint_id(row, 0)?;
    let wrong = |what: String| corrupt(format!("webhook endpoint {id}: {what}"));
    // The violation never contains the secret.
    let secret = |text: &str| Secret::parse("secret", text).map_err(|violation| wrong(violation.to_string()));
    let violated = |violation: Violation| wrong(violation.to_string());
    let previous = match (row.optional_text(4)?, row.optional_integer(5)?) {
        (Some(text), Some(until)) => Some(PreviousSecret { secret: secret(text)?, until: micros(until)? }),
        _ => None,
    };
    let disabled = match (row.optional_text(7)?, row.optional_integer(8)?) {
        (Some(reason), Some(at)) => Some(Disabled { reason: reason.to_owned(), at: micros(at)? }),
        _ => None,
    };
    let origin = row.text(6)?;
    Ok(Endpoint {
        id,
        url: EndpointUrl::parse("url", row.text(1)?).map_err(violated)?,
        filter: EventFilter::parse(row.text(2)?).map_err(violated)?,
        secret: secret(row.text(3)?)?,
        previous,
        origin: EndpointOrigin::parse(origin).ok_or_else(|| wrong(format!("origin {origin:?}")))?,
        disabled,
        created_at: timestamp(row, 9)?,
        updated_at: timestamp(row, 10)?,
    })
}

/// Decodes `id, endpoint_id, event_id, type, event_at, status, attempts, next_attempt_at, last_status, last_error,
/// created_at, updated_at`.
pub(in crate::store) fn delivery(row: &impl Columns) -> Result<Delivery, StoreError> {
    let id = DeliveryId::from_stored(row.integer(0)?);
    let wrong = |what: String| corrupt(format!("webhook delivery {id}: {what}"));
    let status = row.text(5)?;
    let last_status = row.optional_integer(8)?.map(u16::try_from).transpose();
    Ok(Delivery {
        id,
        endpoint: endpoint_id(row, 1)?,
        event_id: uuid(row, 2)?,
        event_type: row.text(3)?.to_owned(),
        event_at: timestamp(row, 4)?,
        status: DeliveryStatus::parse(status).ok_or_else(|| wrong(format!("status {status:?}")))?,
        attempts: attempts(row, 6)?,
        next_attempt_at: row.optional_integer(7)?.map(micros).transpose()?,
        last_status: last_status.map_err(|error| wrong(format!("last_status: {error}")))?,
        last_error: row.optional_text(9)?.map(str::to_owned),
        created_at: timestamp(row, 10)?,
        updated_at: timestamp(row, 11)?,
    })
}

/// Decodes `id, claim, endpoint_id, event_id, payload, attempts, traceparent` of a delivery as it was before it is
/// claimed now; `None` if its endpoint is not among the receivers.
pub(in crate::store) fn claimed(
    row: &impl Columns,
    receivers: &HashMap<EndpointId, Arc<Receiver>>,
) -> Result<Option<Claimed>, StoreError> {
    let Some(to) = receivers.get(&endpoint_id(row, 2)?) else { return Ok(None) };
    Ok(Some(Claimed {
        delivery: DeliveryId::from_stored(row.integer(0)?),
        claim: row.integer(1)? + 1,
        to: to.clone(),
        event_id: uuid(row, 3)?,
        payload: row.text(4)?.to_owned(),
        attempts: attempts(row, 5)?,
        trace: trace(row, 6)?,
    }))
}

/// Decodes rows of endpoints, and returns the enabled ones with the secrets that sign at `now`.
pub(in crate::store) fn receivers<R: Columns>(
    rows: &[R],
    now: Timestamp,
) -> HashMap<EndpointId, Arc<Receiver>> {
    let mut receivers = HashMap::with_capacity(rows.len());
    for row in rows {
        match endpoint(row) {
            Ok(endpoint) if endpoint.disabled.is_none() => {
                receivers.insert(endpoint.id, Arc::new(endpoint.receiver(now)));
            }
            Ok(_disabled) => {}
            // Its deliveries wait until somebody repairs it, and those of other endpoints do not.
            Err(error) => {
                tracing::error!(%error, "a webhook endpoint is damaged: nothing is delivered to it");
            }
        }
    }
    receivers
}

/// Decodes `id, next_attempt_at` of endpoints, and returns those whose first delivery is due.
pub(in crate::store) fn due<R: Columns>(
    rows: &[R],
    now: Timestamp,
) -> Result<Vec<(EndpointId, Timestamp)>, StoreError> {
    let mut due = Vec::new();
    for row in rows {
        let first = row.optional_integer(1)?.map(micros).transpose()?;
        if let Some(first) = first.filter(|first| *first <= now) {
            due.push((endpoint_id(row, 0)?, first));
        }
    }
    Ok(due)
}

/// Decodes `disabled, count, first due`.
pub(in crate::store) fn pending(row: &impl Columns) -> Result<(bool, u64, Option<Timestamp>), StoreError> {
    Ok((row.integer(0)? != 0, unsigned(row, 1)?, row.optional_integer(2)?.map(micros).transpose()?))
}

/// Decodes `id, event_at` of a delivery.
pub(in crate::store) fn place(row: &impl Columns) -> Result<(DeliveryId, Timestamp), StoreError> {
    Ok((DeliveryId::from_stored(row.integer(0)?), timestamp(row, 1)?))
}

/// Makes a page of the deliveries that were found in each status, the newest first.
pub(in crate::store) fn page(mut found: Vec<Delivery>, page: &DeliveryPage) -> Vec<Delivery> {
    found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    found.truncate(page.limit as usize);
    found
}

fn endpoint_id(row: &impl Columns, column: usize) -> Result<EndpointId, StoreError> {
    uuid(row, column).map(EndpointId::from_uuid)
}

fn uuid(row: &impl Columns, column: usize) -> Result<Uuid, StoreError> {
    Uuid::from_slice(row.bytes(column)?).map_err(|error| corrupt(format!("an id: {error}")))
}

fn attempts(row: &impl Columns, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.integer(column)?).map_err(|error| corrupt(format!("attempts: {error}")))
}
