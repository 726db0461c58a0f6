//! The filter of an endpoint: the types of events that it receives.

use std::fmt;

use crate::engine::{EventType, Violation};

/// Patterns of event types: CloudEvents types (`bespeak.stock.depleted.v1`), or prefixes of them that end in `*`
/// (`bespeak.stock.*`). Without a pattern every event matches. A pattern must match a known type; a prefix also
/// matches types that are added later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The sorted, distinct patterns, separated by spaces, as they are stored.
    text: String,
}

impl EventFilter {
    /// The most patterns in one filter.
    pub const PATTERNS_MAX: usize = 32;

    /// Parses the format of [`Self::as_text`]: patterns separated by spaces, or nothing.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        Self::from_patterns("eventTypes", text.split_ascii_whitespace())
    }

    /// Parses patterns. `field` is the name of the list in error messages.
    pub fn from_patterns<'a>(
        field: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Violation> {
        let mut parsed = Vec::new();
        for (n, pattern) in patterns.into_iter().enumerate() {
            if n >= Self::PATTERNS_MAX {
                return Err(Violation::new(field, format!("must be at most {}", Self::PATTERNS_MAX)));
            }
            if !EventType::ALL.iter().any(|kind| matches(pattern, kind.as_str())) {
                let known: Vec<_> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
                return Err(Violation::new(
                    format!("{field}[{n}]"),
                    format!(
                        "must be an event type, or a prefix of one followed by *; the types are {}",
                        known.join(", ")
                    ),
                ));
            }
            parsed.push(pattern);
        }
        parsed.sort_unstable();
        parsed.dedup();
        Ok(Self { text: parsed.join(" ") })
    }

    /// The patterns, separated by spaces; empty if every event matches.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.text.split_ascii_whitespace()
    }

    /// Whether an endpoint with this filter receives events of a type.
    pub fn wants(&self, event_type: &str) -> bool {
        self.text.is_empty() || self.patterns().any(|pattern| matches(pattern, event_type))
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "*" } else { &self.text })
    }
}

fn matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => event_type.starts_with(beginning),
        None => pattern == event_type,
    }
}
