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
        webhooks::{Claimed, DeliveryPage, DueEndpoint},
    },
    webhooks::{
        CustomHeaders, Delivery, DeliveryId, DeliveryStatus, Disabled, Endpoint, EndpointHealth, EndpointId,
        EndpointOrigin, EndpointUrl, EventFilter, PreviousSecret, Receiver, RequestDigest, Secret,
    },
};

/// Decodes `id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason, disabled_at,
/// created_at, updated_at, earlier_secrets, headers, created_by, rotated_by`.
pub(in crate::store) fn endpoint(row: &impl Columns) -> Result<Endpoint, StoreError> {
    let id = endpoint_id(row, 0)?;
    let wrong = |what: String| corrupt(format!("webhook endpoint {id}: {what}"));
    // The violation never contains the secret.
    let secret = |text: &str| Secret::parse("secret", text).map_err(|violation| wrong(violation.to_string()));
    let violated = |violation: Violation| wrong(violation.to_string());
    let mut previous = Vec::new();
    if let (Some(text), Some(until)) = (row.optional_text(4)?, row.optional_integer(5)?) {
        previous.push(PreviousSecret { secret: secret(text)?, until: micros(until)? });
    }
    for one in row.optional_text(11)?.unwrap_or_default().split_ascii_whitespace() {
        let (until, text) = one.split_once(':').ok_or_else(|| wrong("earlier_secrets".to_owned()))?;
        let until = until.parse().map_err(|_| wrong("the end of an earlier secret".to_owned()))?;
        previous.push(PreviousSecret { secret: secret(text)?, until: micros(until)? });
    }
    let disabled = match (row.optional_text(7)?, row.optional_integer(8)?) {
        (Some(reason), Some(at)) => Some(Disabled { reason: reason.to_owned(), at: micros(at)? }),
        _ => None,
    };
    let origin = row.text(6)?;
    let headers = row.optional_text(12)?.map(CustomHeaders::from_stored).transpose().map_err(violated)?;
    Ok(Endpoint {
        id,
        url: EndpointUrl::parse("url", row.text(1)?).map_err(violated)?,
        filter: EventFilter::parse(row.text(2)?).map_err(violated)?,
        headers: headers.unwrap_or_default(),
        secret: secret(row.text(3)?)?,
        previous,
        origin: EndpointOrigin::parse(origin).ok_or_else(|| wrong(format!("origin {origin:?}")))?,
        disabled,
        created_by: request_digest(row.optional_bytes(13)?),
        rotated_by: request_digest(row.optional_bytes(14)?),
        created_at: timestamp(row, 9)?,
        updated_at: timestamp(row, 10)?,
    })
}

/// Decodes [`request_bytes`].
fn request_digest(bytes: Option<&[u8]>) -> Option<RequestDigest> {
    let (key, request) = bytes?.split_at_checked(32)?;
    Some(RequestDigest { key: key.try_into().ok()?, request: request.try_into().ok()? })
}

/// A key and a request as they are stored: the digest of the key, then that of the request.
pub(in crate::store) fn request_bytes(digest: &RequestDigest) -> Vec<u8> {
    [digest.key, digest.request].concat()
}

/// The secrets before the previous one as they are stored: `until:secret`, separated by spaces; `None` if there are
/// none.
pub(in crate::store) fn earlier_secrets(endpoint: &Endpoint) -> Option<String> {
    let earlier = endpoint.previous.iter().skip(1);
    let texts: Vec<String> =
        earlier.map(|one| format!("{}:{}", one.until.as_microsecond(), one.secret.reveal())).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// Decodes `endpoint_id, failures, failing_since, paused_until, gone, gone_since, is_full`.
pub(in crate::store) fn health(row: &impl Columns) -> Result<(EndpointId, EndpointHealth), StoreError> {
    let time = |column| row.optional_integer(column)?.map(micros).transpose();
    let count = |column| {
        u32::try_from(row.integer(column)?).map_err(|error| corrupt(format!("webhook_health: {error}")))
    };
    Ok((
        endpoint_id(row, 0)?,
        EndpointHealth {
            failures: count(1)?,
            failing_since: time(2)?,
            paused_until: time(3)?,
            gone: count(4)?,
            gone_since: time(5)?,
            is_full: row.integer(6)? != 0,
        },
    ))
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
    of: &DueEndpoint,
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
        is_probe: of.is_probe,
        is_healthy: of.is_healthy,
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

/// Decodes `id, next_attempt_at, paused_until, failing_since` of endpoints, and returns those whose first delivery is
/// due and whose circuit is not open.
pub(in crate::store) fn due<R: Columns>(rows: &[R], now: Timestamp) -> Result<Vec<DueEndpoint>, StoreError> {
    let mut due = Vec::new();
    for row in rows {
        let time = |column| row.optional_integer(column)?.map(micros).transpose();
        let (first, paused_until) = (time(1)?, time(2)?);
        if let Some(since) =
            first.filter(|first| *first <= now && paused_until.is_none_or(|until| until <= now))
        {
            let is_healthy = paused_until.is_none() && time(3)?.is_none();
            due.push(DueEndpoint {
                id: endpoint_id(row, 0)?,
                since,
                is_probe: paused_until.is_some(),
                is_healthy,
            });
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

/// Decodes the id of an endpoint in column 0.
pub(in crate::store) fn id(row: &impl Columns) -> Result<EndpointId, StoreError> {
    endpoint_id(row, 0)
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
