//! Rows of leases.

use uuid::Uuid;

use super::{
    Columns,
    columns::{corrupt, timestamp, unsigned},
};
use crate::{
    engine::Timestamp,
    store::{StoreError, leases},
};

/// Decodes `name, owner, fencing, expires_at`.
///
/// A lease whose owner, number or end cannot be decoded is free, because its owner cannot prove that it has it. Its
/// next fencing number comes from the clock. Otherwise one damaged row would stop every relay.
pub(in crate::store) fn lease(row: &impl Columns) -> Result<leases::LeaseRow, StoreError> {
    let name = row.text(0)?.to_owned();
    let held = || -> Result<(Option<Uuid>, u64, Timestamp), StoreError> {
        let owner = row.optional_bytes(1)?.map(Uuid::from_slice).transpose();
        let owner = owner.map_err(|error| corrupt(format!("the owner of a lease: {error}")))?;
        Ok((owner, unsigned(row, 2)?, timestamp(row, 3)?))
    };
    let (owner, fencing, expires_at) = held().unwrap_or_else(|error| {
        tracing::error!(%name, %error, "a lease is damaged, and counts as free");
        (None, unsigned(row, 2).unwrap_or(0), Timestamp::UNIX_EPOCH)
    });
    Ok(leases::LeaseRow { name, owner, fencing, expires_at })
}
