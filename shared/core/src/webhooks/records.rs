//! Endpoints and deliveries as the database stores them, shared by all back ends. Next: `change.rs` for how an endpoint
//! changes.

use serde::Serialize;
use uuid::Uuid;

use super::{CustomHeaders, DeliveryId, EndpointId, EndpointUrl, EventFilter, Secret};
use crate::engine::Timestamp;

/// The creator of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointOrigin {
    /// A client of the HTTP API.
    Api,
    /// The configuration. Only the configuration can change URL and secret.
    Environment,
}

impl EndpointOrigin {
    /// Every origin.
    pub const ALL: [Self; 2] = [Self::Api, Self::Environment];

    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Environment => "environment",
        }
    }

    /// Parses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == text)
    }
}

/// The most replaced secrets that sign beside the present one. Each keeps signing until its own end.
pub const PREVIOUS_SECRETS_MAX: usize = 4;

/// A replaced secret that still signs for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: Secret,
    /// The time from which it no longer signs.
    pub until: Timestamp,
}

/// The state of a disabled endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    /// The reason.
    pub reason: String,
    /// The time at which it was disabled.
    pub at: Timestamp,
}

/// A subscriber: a URL that receives events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its URL.
    pub url: EndpointUrl,
    /// The events that it receives.
    pub filter: EventFilter,
    /// Headers that are added to its deliveries.
    pub headers: CustomHeaders,
    /// The secret that signs.
    pub secret: Secret,
    /// The secrets that signed before, the newest first; each still signs until its own end.
    pub previous: Vec<PreviousSecret>,
    /// Its creator.
    pub origin: EndpointOrigin,
    /// Set if the endpoint is disabled. Its deliveries are kept, and continue when it is enabled.
    pub disabled: Option<Disabled>,
    /// The request that created it, if it had an idempotency key.
    pub created_by: Option<RequestDigest>,
    /// The request that last rotated its secret, if it had an idempotency key.
    pub rotated_by: Option<RequestDigest>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
}

/// The digests of an idempotency key and of the request that came with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestDigest {
    /// The digest of the key.
    pub key: [u8; 32],
    /// The digest of the request.
    pub request: [u8; 32],
}

impl RequestDigest {
    /// The digests of a key and of a request, whose parts are taken one by one, so that none can pass as part of
    /// another.
    pub fn new(key: &str, parts: &[&str]) -> Self {
        let mut request = blake3::Hasher::new();
        for part in parts {
            request.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        Self { key: *blake3::hash(key.as_bytes()).as_bytes(), request: *request.finalize().as_bytes() }
    }
}

impl std::fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A request may contain a secret, and a digest of few possibilities tells which it was.
        f.write_str("RequestDigest(..)")
    }
}

/// A request to create an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Its id: drawn by the caller, or [derived](EndpointId::of_key) from the idempotency key.
    pub id: EndpointId,
    /// Its URL.
    pub url: EndpointUrl,
    /// The events that it receives.
    pub filter: EventFilter,
    /// Headers that are added to its deliveries.
    pub headers: CustomHeaders,
    /// The secret that signs.
    pub secret: Secret,
    /// The idempotency key and the request: a retry finds the endpoint.
    pub request: Option<RequestDigest>,
}

/// The endpoint that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its URL.
    pub url: EndpointUrl,
    /// The secret that signs; [`Secret::absent`] if deliveries are not signed.
    pub secret: Secret,
    /// The events that it receives; `None` keeps what was set over the API.
    pub filter: Option<EventFilter>,
}

/// The destination of a delivery, with the secrets that sign at present.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its URL.
    pub url: EndpointUrl,
    /// The present secret, and those that were rotated and still sign; the newest first. None if deliveries are not
    /// signed.
    pub secrets: Vec<Secret>,
    /// Headers that are added to the request.
    pub headers: CustomHeaders,
}

impl Endpoint {
    /// The destination and the secrets that sign at `now`.
    pub fn receiver(&self, now: Timestamp) -> Receiver {
        let previous = self.previous.iter().filter(|previous| now < previous.until);
        let secrets = std::iter::once(&self.secret).chain(previous.map(|previous| &previous.secret));
        Receiver {
            endpoint: self.id,
            url: self.url.clone(),
            secrets: secrets.filter(|secret| !secret.is_absent()).cloned().collect(),
            headers: self.headers.clone(),
        }
    }
}

/// The status of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeliveryStatus {
    /// An attempt is due, will be due, or is in flight.
    Pending,
    /// The receiver answered with a 2xx status.
    Delivered,
    /// The delivery was given up.
    Failed,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
        }
    }

    /// Parses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// An event that is sent to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The id of the event, sent as the header `webhook-id`.
    pub event_id: Uuid,
    /// The CloudEvents type of the event.
    pub event_type: String,
    /// The time of the event.
    pub event_at: Timestamp,
    /// The status.
    pub status: DeliveryStatus,
    /// Attempts whose result is known, since the delivery was enqueued or redelivered by hand.
    pub attempts: u32,
    /// The time of the next attempt, or at which the claim of the attempt in flight expires.
    pub next_attempt_at: Option<Timestamp>,
    /// The status of the last response.
    pub last_status: Option<u16>,
    /// The reason of the last failure.
    pub last_error: Option<String>,
    /// The time at which it was enqueued.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
}

/// The reason why a request about webhooks had no effect, as the client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// The endpoint has no such delivery.
    #[error("the endpoint has no such delivery")]
    NoDelivery,
    /// The URL and the secret belong to the configuration.
    #[error(
        "the endpoint belongs to the configuration: change BESPEAK_WEBHOOK_URL and BESPEAK_WEBHOOK_SECRET"
    )]
    FromEnvironment,
    /// The URL moves to another host, and the headers, which are secrets, were not given with it.
    #[error(
        "must be given with a url of another host, because the present headers are secrets of the old one"
    )]
    HeadersOfOtherHost,
    /// Too many secrets sign at the same time.
    #[error(
        "{PREVIOUS_SECRETS_MAX} replaced secrets still sign; rotate again when one has ended, or with overlapSeconds \
         0, which ends all of them at once"
    )]
    TooManySecrets,
    /// There are as many endpoints as may be.
    #[error("there are {max} endpoints, as many as BESPEAK_WEBHOOK_ENDPOINTS_MAX allows: delete one first")]
    TooManyEndpoints {
        /// The limit.
        max: u32,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for a different request, or more than a day ago")]
    KeyReused,
    /// As many deliveries are pending as may be.
    #[error("too many deliveries of the endpoint are pending; replay when it has received them")]
    Full,
    /// As many tests, replays or deletions run as may at the same time.
    #[error("too many requests of this kind run at present; retry in a moment")]
    Busy,
}

impl WebhookRefusal {
    /// The slug of the problem type, which never changes.
    pub fn slug(self) -> &'static str {
        match self {
            Self::NoEndpoint => "webhook-not-found",
            Self::NoDelivery => "delivery-not-found",
            Self::FromEnvironment => "webhook-of-environment",
            Self::HeadersOfOtherHost => "invalid-value",
            Self::TooManySecrets => "webhook-secret-limit",
            Self::TooManyEndpoints { .. } => "webhook-limit",
            Self::KeyReused => "idempotency-key-reused",
            Self::Full => "webhook-full",
            Self::Busy => "webhook-busy",
        }
    }
}
