//! One attempt over HTTP: signed, to nobody who may not be reached, not longer than it may take.
//!
//! No redirects (who moved must say so), no proxies (they would connect where `guard.rs` cannot look), and no more of the
//! answer than an excerpt.

use std::{error::Error, time::Duration};

use reqwest::{Client, Response, header, redirect::Policy};
use uuid::Uuid;

use super::{resolver::GuardedResolver, schedule::retry_after};
use crate::{
    engine::Timestamp,
    trace::{TRACEPARENT, TraceContext},
    webhooks::{Forbidden, Receiver},
};

/// How much of an answer is read, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;
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

/// Makes attempts.
#[derive(Debug)]
pub struct Sender {
    /// Or why there is none: without trusted authorities TLS cannot be set up.
    client: Result<Client, String>,
    options: SenderOptions,
}

impl Sender {
    /// Prepares a client.
    pub fn new(options: SenderOptions) -> Self {
        // The first to set the process's cryptography wins; there is only one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(options.timeout)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(4)
            .dns_resolver(GuardedResolver::new(options.allow_private))
            .user_agent(concat!("bespeak/", env!("CARGO_PKG_VERSION"), " (webhooks)"))
            .build()
            .map_err(|error| format!("the HTTP client cannot be started: {}", innermost(&error)));
        Self { client, options }
    }

    /// Makes one attempt. Cancel-safe, in that nothing of it is left here; the receiver may have got the message.
    pub async fn send(&self, to: &Receiver, message: &Message, now: Timestamp) -> Received {
        let attempt = async {
            // Names are judged once they are resolved; an address has nothing to resolve.
            let refused = to.url.forbidden().filter(|_| !self.options.allow_private);
            if let Some(forbidden) = refused {
                return Err(forbidden.to_string());
            }
            let client = self.client.as_ref().map_err(String::clone)?;
            let id = message.id.to_string();
            let signatures: Vec<_> =
                to.secrets.iter().map(|secret| secret.sign(&id, now, &message.body)).collect();
            let mut request = client
                .post(to.url.url().clone())
                .header(header::CONTENT_TYPE, "application/json")
                .header(standardwebhooks::HEADER_WEBHOOK_ID, id)
                .header(standardwebhooks::HEADER_WEBHOOK_TIMESTAMP, now.as_second().to_string())
                .header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, signatures.join(" "))
                .body(message.body.clone());
            if let Some(trace) = message.trace {
                request = request.header(TRACEPARENT, trace.traceparent().as_str());
            }
            let response = request.send().await.map_err(|error| self.reason(&error))?;
            Ok(read(response, now).await)
        };
        attempt.await.unwrap_or_else(|reason| Received::Nothing { reason })
    }

    /// What an operator can act on. The URL is left out: it stands beside this, and may be a capability.
    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no whole answer within {:?}", self.options.timeout);
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
                return forbidden.to_string();
            }
            cause = error.source();
        }
        let what = if error.is_connect() { "it cannot be connected to" } else { "the connection broke" };
        format!("{what}: {}", innermost(error))
    }
}

/// Takes the answer apart. Its status decides: a body that breaks off changes nothing.
async fn read(mut response: Response, now: Timestamp) -> Received {
    let status = response.status().as_u16();
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = asked.filter(|_| matches!(status, 429 | 503)).and_then(|value| retry_after(value, now));
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(BODY_BYTES_MAX);
    Received::Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() }
}

/// The cause of all causes, which names no URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
