//! Headers that an endpoint adds to each of its deliveries, such as `Authorization`. Their values are secrets.

use std::{collections::BTreeMap, fmt};

use crate::engine::Violation;

/// The headers of an endpoint, by lower-case name. The values appear in no log and in no answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(BTreeMap<String, String>);

/// Headers that belong to the connection, to the message or to its signature, so no endpoint may set them.
const FORBIDDEN: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
];
/// Prefixes of forbidden headers.
const FORBIDDEN_PREFIXES: [&str; 2] = ["webhook-", "svix-"];

impl CustomHeaders {
    /// The most headers of one endpoint.
    pub const COUNT_MAX: usize = 8;
    /// The longest name, in characters.
    pub const NAME_LENGTH_MAX: usize = 64;
    /// The longest value, in characters.
    pub const VALUE_LENGTH_MAX: usize = 1_024;

    /// The names that no endpoint may set, in lower case.
    pub fn forbidden_names() -> impl Iterator<Item = &'static str> {
        FORBIDDEN.into_iter()
    }

    /// How names begin that no endpoint may set, in lower case.
    pub fn forbidden_prefixes() -> impl Iterator<Item = &'static str> {
        FORBIDDEN_PREFIXES.into_iter()
    }

    /// Parses names and values. `field` is the name of the object in error messages, which never contain a value.
    pub fn from_pairs<'a>(
        field: &str,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Violation> {
        let mut headers = BTreeMap::new();
        for (name, value) in pairs {
            let lower = name.to_ascii_lowercase();
            let wrong = |problem: String| Violation::new(format!("{field}.{name}"), problem);
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || name.len() > Self::NAME_LENGTH_MAX || !name.bytes().all(is_token) {
                let problem = format!(
                    "must be the name of a header: 1 to {} letters, digits and hyphens",
                    Self::NAME_LENGTH_MAX
                );
                return Err(Violation::new(field, problem));
            }
            let is_forbidden = FORBIDDEN.contains(&&*lower)
                || FORBIDDEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
            if is_forbidden {
                return Err(wrong(format!(
                    "must be another header: an endpoint cannot set {}, nor headers that begin with {}",
                    FORBIDDEN.join(", "),
                    FORBIDDEN_PREFIXES.join(" or "),
                )));
            }
            let is_text = |byte: u8| (0x20..0x7f).contains(&byte);
            if value.is_empty()
                || value.len() > Self::VALUE_LENGTH_MAX
                || !value.bytes().all(is_text)
                || value.trim() != value
            {
                return Err(wrong(format!(
                    "must have 1 to {} visible ASCII characters, without spaces at its ends",
                    Self::VALUE_LENGTH_MAX
                )));
            }
            if headers.insert(lower, value.to_owned()).is_some() {
                return Err(wrong("must be given once; the case of a name does not matter".to_owned()));
            }
        }
        if headers.len() > Self::COUNT_MAX {
            return Err(Violation::new(field, format!("must be at most {} headers", Self::COUNT_MAX)));
        }
        Ok(Self(headers))
    }

    /// Parses [`Self::as_stored`].
    pub(crate) fn from_stored(text: &str) -> Result<Self, Violation> {
        let pairs: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| Violation::new("headers", "must be a JSON object"))?;
        Self::from_pairs("headers", pairs.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// The headers as they are stored, with their values; `None` if there are none.
    pub(crate) fn as_stored(&self) -> Option<String> {
        // Cannot fail: names and values are strings.
        (!self.0.is_empty()).then(|| serde_json::to_string(&self.0).unwrap_or_default())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in lower case and sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The names and the secret values, to send them.
    pub(crate) fn reveal(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.names().map(|name| (name, "***"))).finish()
    }
}
