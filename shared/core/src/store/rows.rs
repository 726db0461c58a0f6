//! What every dialect writes the same way.

use super::StoreError;
use crate::engine::Event;

/// How many shards the outbox has: the unit in which relays share it.
pub(super) const SHARDS: u8 = 64;

/// The shard of an event key: stable over versions, machines and databases.
pub(super) fn shard(key: &str) -> u8 {
    blake3::hash(key.as_bytes()).as_bytes()[0] % SHARDS
}

/// The `data` of an event, as JSON.
pub(super) fn payload(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(&event.payload).map_err(|source| StoreError::Statement { source: source.into() })
}
