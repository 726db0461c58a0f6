//! The header `Idempotency-Key`: bare, or a quoted Structured-Field string (draft-ietf-httpapi-idempotency-key-header).

use axum::http::HeaderMap;
use bespeak::engine::IdempotencyKey;
use sfv::{BareItem, Item, Parser};

use crate::problem::Problem;

pub(crate) const HEADER: &str = "idempotency-key";

/// Parses the idempotency key of a request that may have one.
pub(crate) fn optional(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    if headers.contains_key(HEADER) { required(headers).map(Some) } else { Ok(None) }
}

/// Parses the idempotency key, which the request must have.
pub(crate) fn required(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Err(Problem::key_missing());
    };
    let malformed = |detail: &str| Problem::key_malformed(detail);
    if values.next().is_some() {
        return Err(malformed("the header Idempotency-Key must be sent only once"));
    }
    let text = value.to_str().map_err(|_| malformed("the key must be printable ASCII"))?.trim();
    let key = if text.starts_with('"') {
        let item: Item = Parser::new(text).parse().map_err(|_| {
            malformed("a key that starts with a quote must be a Structured-Field string (RFC 9651)")
        })?;
        // A parameter would be ignored, and so two different headers would be the same key.
        if !item.params.is_empty() {
            return Err(malformed("a quoted key must not have parameters"));
        }
        match item.bare_item {
            BareItem::String(string) => string.as_str().to_owned(),
            _ => return Err(malformed("the key must be a Structured-Field string (RFC 9651)")),
        }
    } else {
        text.to_owned()
    };
    IdempotencyKey::new(&key).map_err(|violation| malformed(&violation.to_string()))
}
