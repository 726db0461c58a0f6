//! Ids of endpoints and deliveries, and the URL of an endpoint: parsed once, where a request or the configuration is
//! read.

use std::{fmt, sync::Arc};

use url::{Host, Url};
use uuid::Uuid;

use crate::engine::Violation;

/// The id of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Uuid);

impl EndpointId {
    /// The id of the endpoint that the configuration names. It is constant, so that a restart finds the endpoint: a
    /// UUID of version 8 (RFC 9562), whose bits are free.
    pub const ENVIRONMENT: Self = Self(Uuid::from_u128(0x6265_7370_6561_8b00_8000_0000_0000_0001));

    /// The id of the endpoint that a request with an idempotency key creates, so that a retry finds it: a UUID of
    /// version 8, from a digest of the key.
    pub fn of_key(key: &str) -> Self {
        let digest = blake3::derive_key("bespeak 2026-11-30 webhook endpoint id", key.as_bytes());
        let (bytes, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self(uuid::Builder::from_custom_bytes(*bytes).into_uuid())
    }

    /// Wraps a UUID that was drawn or read elsewhere.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Parses the hyphenated form of a UUID.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let uuid = (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten();
        uuid.map(Self).ok_or_else(|| {
            Violation::new(field, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
        })
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

/// The number of a delivery. Later deliveries have larger numbers, except among those that were enqueued concurrently.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(i64);

impl DeliveryId {
    /// Wraps an id that was read from the database.
    pub(crate) fn from_stored(id: i64) -> Self {
        Self(id)
    }

    /// Parses a whole number from 1.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number
            .filter(|id| *id >= 1)
            .map(Self)
            .ok_or_else(|| Violation::new(field, "must be a whole number from 1"))
    }

    /// The id as a number.
    pub fn number(self) -> i64 {
        self.0
    }
}

/// The URL of an endpoint: absolute, http or https, without user or password, at most 2048 characters. `policy.rs`
/// decides whether it may be connected to. `Display` and `Debug` mask the query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl(Arc<Url>);

impl EndpointUrl {
    /// The longest URL, in characters (all of them ASCII).
    pub const LENGTH_MAX: usize = 2_048;

    /// Parses a URL by the URL standard: a host in an unusual notation (`http://0x7f.1`) becomes the address that it
    /// denotes.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let wrong = |problem: &str| Violation::new(field, problem);
        // The URL standard removes or replaces these, so events would go to another URL than the one that was sent.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(wrong("must not contain white space, control characters or backslashes"));
        }
        let url = Url::parse(text)
            .map_err(|_| wrong("must be an absolute URL, such as https://example.com/webhooks"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not contain a user or a password"));
        }
        if url.fragment().is_some() {
            return Err(wrong("must not have a fragment (#)"));
        }
        if url.as_str().len() > Self::LENGTH_MAX {
            return Err(wrong("must have at most 2048 characters"));
        }
        Ok(Self(Arc::new(url)))
    }

    /// The URL without its query, which may be a capability: for answers and logs.
    pub fn masked(&self) -> String {
        if self.0.query().is_none() {
            return self.0.to_string();
        }
        let mut masked = Url::clone(&self.0);
        masked.set_query(Some("***"));
        masked.into()
    }

    /// The whole URL, to store it and to send to it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The URL, parsed.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The address, if the host is an address and not a name.
    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )*};
}

shown_as_text!(EndpointId, DeliveryId);

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}
