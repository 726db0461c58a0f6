//! The secret that signs deliveries.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use standardwebhooks::Webhook;

use crate::engine::{Timestamp, Violation};

const PREFIX: &str = "whsec_";

/// The secret that an endpoint shares with this service: `whsec_` and the base64 of 24 to 64 random bytes, as
/// Standard Webhooks specifies. It is shown once, to the client that created the endpoint, and never in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    key: Vec<u8>,
}

impl Secret {
    /// The number of random bytes of a new secret.
    pub const KEY_BYTES: usize = 32;

    /// A secret from bytes of a cryptographic generator.
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

    /// Stands for no secret, where the configuration asks for deliveries without a signature: a key of zeros, which no
    /// generator draws, so that it can be stored like any other.
    pub fn absent() -> Self {
        Self::from_key([0; Self::KEY_BYTES])
    }

    /// Whether this stands for no secret.
    pub fn is_absent(&self) -> bool {
        self.key == [0; Self::KEY_BYTES]
    }

    /// The expected format, for error messages.
    pub const EXPECTED: &'static str =
        "whsec_ and the base64 of 24 to 64 random bytes, as from: echo whsec_$(openssl rand -base64 32)";

    /// The secret as text, to store it and to show it to its owner.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Signs a message that is sent at `at`: `v1,` and the base64 of an HMAC-SHA256.
    pub fn sign(&self, message_id: &str, at: Timestamp, body: &str) -> String {
        // Cannot fail: errors are an invalid base64 key, but this key is bytes, and an invalid UTF-8 body, but this
        // is a `str`.
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
