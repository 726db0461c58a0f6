//! The names in a reservation: resource ids, tokens, idempotency keys, holders.
//!
//! Each type has private fields and one fallible constructor. Behind the edge, no plain string serves as an id.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::violation::Violation;

/// The id of a resource: 1 to 128 characters of `A-Za-z0-9._:/-`, compared byte by byte.
///
/// No segment between slashes may be empty, `.` or `..`: proxies and URL libraries rewrite such paths, so a request
/// would reach a different resource from the one that it named.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
pub struct ResourceId(
    // Each segment: at least three dots and nothing else, or at least one character that is not a dot.
    #[schemars(
        length(min = 1, max = ResourceId::LENGTH_MAX),
        pattern(r"^([.]{3,}|[.]*[A-Za-z0-9_:-][A-Za-z0-9._:-]*)(/([.]{3,}|[.]*[A-Za-z0-9_:-][A-Za-z0-9._:-]*))*$")
    )]
    Arc<str>,
);

impl ResourceId {
    /// The longest id, in characters (all of them ASCII).
    pub const LENGTH_MAX: usize = 128;

    /// Parses an id. `field` is the name of the field, for the message.
    pub fn new(field: &str, id: &str) -> Result<Self, Violation> {
        if id.is_empty() || id.len() > Self::LENGTH_MAX {
            return Err(Violation::new(field, "must have 1 to 128 characters"));
        }
        if let Some(c) = id.chars().find(|c| !(c.is_ascii_alphanumeric() || "._:/-".contains(*c))) {
            return Err(Violation::new(field, format!("must not contain {c:?}; allowed are A-Za-z0-9._:/-")));
        }
        if id.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Violation::new(
                field,
                "must not have an empty, \".\" or \"..\" segment between slashes",
            ));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// The unguessable id of a reservation, and the capability to act on it: a `UUIDv7` (RFC 9562) whose 74 random bits
/// are all drawn afresh for each token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Token(Uuid);

impl Token {
    /// Wraps a UUID that was drawn or read elsewhere.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Parses the hyphenated form of a UUID.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let wrong = || Violation::new(field, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057");
        if text.len() != 36 {
            return Err(wrong());
        }
        Uuid::try_parse(text).map(Self).map_err(|_| wrong())
    }

    /// The token as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

/// The key that a client sends to make a retry safe: 1 to 255 printable ASCII characters, compared byte by byte (so
/// `k` and `k ` differ).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key, in characters.
    pub const LENGTH_MAX: usize = 255;

    /// Parses a key.
    pub fn new(key: &str) -> Result<Self, Violation> {
        let printable = key.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if key.is_empty() || key.len() > Self::LENGTH_MAX || !printable {
            return Err(Violation::new("Idempotency-Key", "must have 1 to 255 printable ASCII characters"));
        }
        Ok(Self(key.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// The customer on whose behalf a reservation is made, as named by the client: 1 to 128 characters (the upper bound
/// is configurable), none of them a control character.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Holder(
    #[schemars(length(min = 1, max = Holder::LENGTH_MAX), pattern(r"^[^\x00-\x1f\x7f-\x9f]*$"))] Arc<str>,
);

impl Holder {
    /// The longest holder that any configuration may allow, in characters.
    pub const LENGTH_MAX: usize = 128;

    /// Parses a holder.
    pub fn new(holder: &str) -> Result<Self, Violation> {
        if holder.is_empty() || holder.chars().count() > Self::LENGTH_MAX {
            return Err(Violation::new("holder", "must have 1 to 128 characters"));
        }
        if holder.chars().any(char::is_control) {
            return Err(Violation::new("holder", "must not contain control characters"));
        }
        Ok(Self(holder.into()))
    }

    /// The holder as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
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

shown_as_text!(ResourceId, Token, IdempotencyKey, Holder);
