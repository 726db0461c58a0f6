//! The values of one attempt: the message that is sent, and the response or the failure.

use std::time::Duration;

use uuid::Uuid;

use crate::trace::TraceContext;

/// The longest reason that is kept, in characters.
const REASON_CHARACTERS_MAX: usize = 250;

/// How attempts are made.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    /// How long one may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Whether private addresses may be sent to.
    pub allow_private: bool,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(15), allow_private: false }
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event: the same for each attempt.
    pub id: Uuid,
    /// The exact body, JSON.
    pub body: String,
    /// The trace of the request that caused the event: the header `traceparent`.
    pub trace: Option<TraceContext>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The receiver answered.
    Answer {
        /// The status.
        status: u16,
        /// How long it asks us to stay away.
        retry_after: Option<Duration>,
        /// The beginning of the body.
        body: String,
    },
    /// It did not, or not to the end.
    Nothing {
        /// Why.
        reason: String,
    },
}

impl Received {
    /// Whether the delivery was made: only 2xx says so.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answer { status: 200..=299, .. })
    }

    /// What was wrong, in at most 250 characters; `None` where nothing was.
    pub fn failure(&self) -> Option<String> {
        match self {
            _ if self.is_success() => None,
            Self::Answer { status, .. } if (300..400).contains(status) => {
                Some(format!("answered {status}, and redirects are not followed"))
            }
            Self::Answer { status, .. } => Some(format!("answered {status}")),
            Self::Nothing { reason } => Some(reason.chars().take(REASON_CHARACTERS_MAX).collect()),
        }
    }
}

/// This build cannot send webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this build has no client for webhooks: build it with the feature webhooks-client")]
pub struct NoWebhooksClient;
