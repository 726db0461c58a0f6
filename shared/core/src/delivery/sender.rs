//! Makes one attempt to deliver a webhook over HTTP: signed, guarded against SSRF, and bounded by a time-out.
//!
//! Receives the receiver and a message; returns the response or the reason for having none. Redirects are not
//! followed, because a receiver that moves must change its endpoint. Proxies are not used, because they would connect
//! to addresses that `webhooks/policy.rs` cannot check. Only the beginning of the response is read.

use std::error::Error;

use reqwest::{
    Client, Response,
    header::{self, HeaderValue},
    redirect::Policy,
};

use super::{
    Message, NoWebhooksClient, Received, SenderOptions, resolver::GuardedResolver, schedule::retry_after,
};
use crate::{
    engine::Timestamp,
    trace::TRACEPARENT,
    webhooks::{Forbidden, Receiver},
};

/// The most bytes that are read of a response body.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// An HTTP client that makes attempts.
#[derive(Debug)]
pub struct Sender {
    /// The client, or the reason why there is none: without trusted authorities TLS cannot be set up.
    client: Result<Client, String>,
    options: SenderOptions,
}

impl Sender {
    /// Prepares a client. Cannot fail in a build with the feature `webhooks-client`.
    pub fn new(options: SenderOptions) -> Result<Self, NoWebhooksClient> {
        // The first caller installs the process-wide provider. Every caller installs the same, so a failure is
        // harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(options.timeout)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(4)
            .dns_resolver(GuardedResolver::new(&options.policy))
            .user_agent(concat!("bespeak/", env!("CARGO_PKG_VERSION"), " (webhooks)"))
            .build()
            .map_err(|error| format!("the HTTP client cannot be started: {}", innermost(&error)));
        Ok(Self { client, options })
    }

    /// Makes one attempt. Cancel-safe: nothing remains here, but the receiver may have got the message.
    pub async fn send(&self, to: &Receiver, message: &Message, now: Timestamp) -> Received {
        let attempt = async {
            // The resolver checks names. An address in the URL is never resolved, so it is checked here.
            if let Some(forbidden) = self.options.policy.refuses_url(&to.url) {
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
                .body(message.body.clone());
            if !signatures.is_empty() {
                request = request.header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, signatures.join(" "));
            }
            for (name, value) in to.headers.reveal() {
                let mut value =
                    HeaderValue::try_from(value).map_err(|_| format!("the header {name} is not valid"))?;
                value.set_sensitive(true);
                request = request.header(name, value);
            }
            if let Some(trace) = message.trace {
                request = request.header(TRACEPARENT, trace.traceparent().as_str());
            }
            let response = request.send().await.map_err(|error| self.reason(&error))?;
            Ok(read(response, now).await)
        };
        attempt.await.unwrap_or_else(|reason| Received::Nothing { reason })
    }

    /// A reason that helps an operator. It omits the URL, which may be a capability and is shown beside the reason
    /// anyway.
    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no complete response within {:?}", self.options.timeout);
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
                return forbidden.to_string();
            }
            cause = error.source();
        }
        let what = if error.is_connect() { "the connection failed" } else { "the connection broke" };
        format!("{what}: {}", innermost(error))
    }
}

/// Reads a response. The status alone decides about success, so a body that breaks off changes nothing.
async fn read(mut response: Response, now: Timestamp) -> Received {
    let status = response.status().as_u16();
    let header = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after =
        header.filter(|_| matches!(status, 429 | 503)).and_then(|value| retry_after(value, now));
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(BODY_BYTES_MAX);
    Received::Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() }
}

/// The text of the innermost cause, which contains no URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
