//! The values of one attempt: the options, the message that is sent, and the response or the failure.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    trace::TraceContext,
    webhooks::{DeliveryPolicy, Sign},
};

/// The longest reason that is kept, in characters.
const REASON_CHARACTERS_MAX: usize = 250;

/// The options of every attempt.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    /// The time-out of an attempt, from connecting to the end of the response.
    pub timeout: Duration,
    /// Where deliveries may go.
    pub policy: DeliveryPolicy,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(15), policy: DeliveryPolicy::default() }
    }
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// The id of the event, the same for every attempt.
    pub id: Uuid,
    /// The exact body, in JSON.
    pub body: String,
    /// The trace of the request that caused the event, sent as the header `traceparent`.
    pub trace: Option<TraceContext>,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A response of the receiver.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The delay that the receiver requests with `Retry-After`.
        retry_after: Option<Duration>,
        /// The beginning of the response body.
        body: String,
    },
    /// No response, or an incomplete one.
    Nothing {
        /// The reason.
        reason: String,
    },
}

impl Received {
    /// Whether the message was delivered: only a 2xx status counts.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answer { status: 200..=299, .. })
    }

    /// What the result says about the receiver.
    pub fn sign(&self) -> Sign {
        match self {
            Self::Answer { status: 200..=299, .. } => Sign::Delivered,
            Self::Answer { status: 410, .. } => Sign::Gone,
            Self::Answer { status: 408 | 429 | 500..=599, .. } | Self::Nothing { .. } => Sign::Failed,
            Self::Answer { .. } => Sign::Refused,
        }
    }

    /// The reason of a failure, in at most 250 characters; `None` for a success.
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

/// The error of a build without the feature `webhooks-client`, which cannot send webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this build has no client for webhooks: build it with the feature webhooks-client")]
pub struct NoWebhooksClient;
