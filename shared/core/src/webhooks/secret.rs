//! What a delivery is signed with.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use standardwebhooks::Webhook;

use crate::engine::{Timestamp, Violation};

const PREFIX: &str = "whsec_";

/// The key that an endpoint and we share: `whsec_` and the base64 of 24 to 64 random bytes, as Standard Webhooks has it.
/// Shown once, to who made the endpoint; never in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    key: Vec<u8>,
}

impl Secret {
    /// How many bytes are drawn for a new secret.
    pub const KEY_BYTES: usize = 32;

    /// A secret from bytes that were drawn by a cryptographic generator.
    pub fn from_key(key: [u8; Self::KEY_BYTES]) -> Self {
        Self { text: format!("{PREFIX}{}", STANDARD.encode(key)), key: key.to_vec() }
    }

    /// Parses a secret.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let key = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        match key {
            Some(key) if (24..=64).contains(&key.len()) => Ok(Self { text: text.to_owned(), key }),
            _ => Err(Violation::new(field, format!("must be {}", Self::EXPECTED))),
        }
    }

    /// What a secret must be.
    pub const EXPECTED: &'static str =
        "whsec_ and the base64 of 24 to 64 random bytes, as from: echo whsec_$(openssl rand -base64 32)";

    /// The secret as its owner is shown it, and as it is stored.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The signature of a message sent at `at`: `v1,` and the base64 of its HMAC-SHA256.
    pub fn sign(&self, message_id: &str, at: Timestamp, body: &str) -> String {
        // Fails only on keys that are no base64 and bodies that are no UTF-8: neither is one.
        Webhook::from_bytes(self.key.clone())
            .and_then(|webhook| webhook.sign(message_id, at.as_second(), body.as_bytes()))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
