//! What all queries have in common: limits of pages, and names that nobody knows.

use std::borrow::Cow;

use crate::problem::Problem;

/// The most records on a page.
const PAGE_MAX: u32 = 1_000;
/// Records on a page that says nothing of it.
pub(crate) const PAGE_DEFAULT: u32 = 100;

/// The parameters of a query, decoded.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// Parses `limit`.
pub(crate) fn limit(value: &str) -> Result<u32, Problem> {
    value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
        Problem::invalid("limit", format!("limit must be a whole number from 1 to {PAGE_MAX}"))
    })
}

/// A parameter that there is not.
pub(crate) fn unknown(name: &str, known: &str) -> Problem {
    Problem::invalid(name, format!("unknown parameter {name:?}; known are {known}"))
}
