//! The data that a client attaches to a reservation, and the fingerprint that distinguishes a retry from a different
//! request.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use super::{Holder, Item, Limits, Ttl, violation::Violation};

/// A JSON object that a client attaches to a reservation and that its events carry. It is kept in canonical form
/// (keys sorted, no white space).
#[derive(Clone, Debug, JsonSchema)]
pub struct Metadata(#[schemars(with = "serde_json::Map<String, Value>")] Arc<RawValue>);

impl Metadata {
    /// Converts a JSON object to canonical form.
    ///
    /// # Errors
    /// The value is not an object, or its canonical form exceeds the limit.
    pub fn new(value: Value, limits: &Limits) -> Result<Self, Violation> {
        if !value.is_object() {
            return Err(Violation::new("metadata", "must be a JSON object"));
        }
        let text = sorted(value).to_string();
        if text.len() > limits.metadata_bytes_max {
            return Err(Violation::new(
                "metadata",
                format!("must have at most {} bytes, had {}", limits.metadata_bytes_max, text.len()),
            ));
        }
        Self::from_canonical(text).map_err(|_| Violation::new("metadata", "must be a JSON object"))
    }

    /// Wraps text that this type wrote before.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn from_canonical(text: String) -> Result<Self, serde_json::Error> {
        Ok(Self(RawValue::from_string(text)?.into()))
    }

    /// The canonical JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Metadata {}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Sorts keys whatever map type `serde_json` was built with: any crate of a build may switch on its feature
/// `preserve_order`.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(k, v)| (k, sorted(v))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// A digest of the request of a reserve command. Two requests with one idempotency key are the same request if and
/// only if their fingerprints are equal. The digest is taken over the parsed command, so white space, the order of
/// items, and a default that was written out make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of a parsed command: the first 128 bits of BLAKE3 over an unambiguous encoding.
    pub fn of(items: &[Item], ttl: Ttl, holder: Option<&Holder>, metadata: Option<&Metadata>) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for item in items {
            part(1, item.resource_id.as_str().as_bytes());
            part(2, &item.quantity.units().to_le_bytes());
        }
        part(3, &ttl.seconds().to_le_bytes());
        if let Some(holder) = holder {
            part(4, holder.as_str().as_bytes());
        }
        if let Some(metadata) = metadata {
            part(5, metadata.as_str().as_bytes());
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(digest)
    }

    /// Wraps a fingerprint that was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes to store.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
