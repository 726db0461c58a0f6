//! Passes records to SQLite as JSON arrays, which it unpacks, so that the number of distinct statements does not grow
//! with the sizes of batches. Inserted rows are bound instead: see `insert.rs`.

use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;

use super::StoreError;
use crate::engine::{IdempotencyKey, Resource, ResourceId, ResourceUpdate, Token, Transition};

/// A UUID as the hexadecimal text that `unhex` parses.
fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn tokens_json<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Result<String, StoreError> {
    json(&tokens.into_iter().map(|token| hex(token.uuid().as_bytes())).collect::<Vec<_>>())
}

pub(super) fn hex_list(ids: &[Uuid]) -> Result<String, StoreError> {
    json(&ids.iter().map(|id| hex(id.as_bytes())).collect::<Vec<_>>())
}

pub(super) fn keys_json<'a>(
    keys: impl IntoIterator<Item = &'a IdempotencyKey>,
) -> Result<String, StoreError> {
    json(&keys.into_iter().map(IdempotencyKey::as_str).collect::<Vec<_>>())
}

pub(super) fn ids_json<'a>(ids: impl IntoIterator<Item = &'a ResourceId>) -> Result<String, StoreError> {
    json(&ids.into_iter().map(ResourceId::as_str).collect::<Vec<_>>())
}

/// Writes `[id, total, available, version, fulfilment, created_at, updated_at]` for each new resource.
pub(super) fn created_resources_json(resources: &[Resource]) -> Result<String, StoreError> {
    json(
        &resources
            .iter()
            .map(|resource| {
                (
                    &resource.id,
                    resource.total,
                    resource.available,
                    resource.version,
                    resource.fulfilment.as_str(),
                    resource.created_at.as_microsecond(),
                    resource.updated_at.as_microsecond(),
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// Writes `[id, from_version, total, available, version, fulfilment, updated_at]` for each changed resource.
pub(super) fn updated_resources_json(updates: &[ResourceUpdate]) -> Result<String, StoreError> {
    json(
        &updates
            .iter()
            .map(|update| {
                let resource = &update.resource;
                (
                    &resource.id,
                    update.from_version,
                    resource.total,
                    resource.available,
                    resource.version,
                    resource.fulfilment.as_str(),
                    resource.updated_at.as_microsecond(),
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// Writes `[token, from_status, from_version, status, version, expires_at, updated_at]` for each changed reservation.
/// Also returns how many item rows they have in total, which the update must match.
pub(super) fn transitions_json(transitions: &[Transition]) -> Result<(String, u64), StoreError> {
    let rows = transitions.iter().map(|transition| transition.reservation.items.len() as u64).sum();
    let text = json(
        &transitions
            .iter()
            .map(|transition| {
                let reservation = &transition.reservation;
                (
                    hex(reservation.token.uuid().as_bytes()),
                    transition.from_status.as_str(),
                    transition.from_version,
                    reservation.status.as_str(),
                    reservation.version,
                    reservation.expires_at.as_microsecond(),
                    reservation.updated_at.as_microsecond(),
                )
            })
            .collect::<Vec<_>>(),
    )?;
    Ok((text, rows))
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Statement { source: source.into() })
}
