//! Which events an endpoint is told of.

use std::fmt;

use crate::engine::{EventType, Violation};

/// CloudEvents types (`bespeak.stock.depleted.v1`), or beginnings of such with a `*` at the end (`bespeak.stock.*`); none
/// of them means every event. What is not known yet cannot be named, but a beginning takes it in once it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// In order, without repetition, separated by spaces: as it is stored.
    text: String,
}

impl EventFilter {
    /// The most patterns of one filter.
    pub const PATTERNS_MAX: usize = 32;

    /// Parses [`Self::as_text`]: patterns separated by spaces, or nothing.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        Self::from_patterns("eventTypes", text.split_ascii_whitespace())
    }

    /// Parses patterns; `field` names the list, for the message.
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
                        "must be an event type or the beginning of one with * at its end; known are {}",
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

    /// The patterns, separated by spaces; empty where every event is wanted.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.text.split_ascii_whitespace()
    }

    /// Whether an endpoint with this filter is told of events of a type.
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
