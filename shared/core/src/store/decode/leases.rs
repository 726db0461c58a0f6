//! Rows of leases.

use uuid::Uuid;

use super::{
    Columns,
    columns::{corrupt, timestamp, unsigned},
};
use crate::store::{StoreError, leases};

/// Decodes `name, owner, fencing, expires_at`.
pub(in crate::store) fn lease(row: &impl Columns) -> Result<leases::LeaseRow, StoreError> {
    let owner = row.optional_bytes(1)?.map(Uuid::from_slice).transpose();
    Ok(leases::LeaseRow {
        name: row.text(0)?.to_owned(),
        owner: owner.map_err(|error| corrupt(format!("the owner of a lease: {error}")))?,
        fencing: unsigned(row, 2)?,
        expires_at: timestamp(row, 3)?,
    })
}
