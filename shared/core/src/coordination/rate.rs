//! The rate that a holder's requests are limited to, and the refusal of a request above it.

use std::{fmt, time::Duration};

/// A number of requests per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The requests allowed in a burst, and per period on average: 1 to 1,000,000.
    pub requests: u32,
    /// The period: 1 s to 24 h.
    pub per: Duration,
}

impl Rate {
    /// The time after which one more request is allowed; never zero.
    pub(super) fn interval(self) -> Duration {
        (self.per / self.requests.max(1)).max(Duration::from_micros(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.requests, self.per.as_secs())
    }
}

/// The refusal of a request because its holder exceeds the rate limit. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this holder asks more often than {rate}")]
pub struct Limited {
    /// The limit.
    pub rate: Rate,
    /// The time until the next request is allowed.
    pub retry_after: Duration,
}
