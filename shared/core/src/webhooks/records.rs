//! Endpoints and deliveries as the database stores them, and how an endpoint changes: rules without I/O, shared by
//! all back ends.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::{DeliveryId, EndpointId, EndpointUrl, EventFilter, Secret};
use crate::engine::Timestamp;

/// The reason that is stored when the configuration no longer names an endpoint.
const NOT_CONFIGURED: &str = "BESPEAK_WEBHOOK_URL is not set";
/// The reason that is stored while an endpoint is being deleted.
pub(crate) const DELETED: &str = "it is being deleted";
/// The time in which the previous secret of the configuration still signs beside the new one, for receivers that were
/// started with it.
const ENVIRONMENT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// The secret that signs.
    pub secret: Secret,
    /// The secret that signed before, while it still signs.
    pub previous: Option<PreviousSecret>,
    /// Its creator.
    pub origin: EndpointOrigin,
    /// Set if the endpoint is disabled. Its deliveries are kept, and continue when it is enabled.
    pub disabled: Option<Disabled>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
}

/// A request to create an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Its id, drawn by the caller.
    pub id: EndpointId,
    /// Its URL.
    pub url: EndpointUrl,
    /// The events that it receives.
    pub filter: EventFilter,
    /// The secret that signs.
    pub secret: Secret,
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

/// A change of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointChange {
    /// Disables the endpoint: nothing is sent to it.
    Disable {
        /// The reason, at most 255 characters.
        reason: String,
    },
    /// Enables the endpoint: pending deliveries are sent too.
    Enable,
    /// Replaces the filter.
    Filter(EventFilter),
    /// Replaces the secret. The old one signs beside it for a while.
    Rotate {
        /// The new secret.
        secret: Secret,
        /// The time in which both sign.
        overlap: Duration,
    },
}

/// The destination of a delivery, with the secrets that sign at present.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its URL.
    pub url: EndpointUrl,
    /// One secret, or two while a rotation is under way; the newest first. None if deliveries are not signed.
    pub secrets: Vec<Secret>,
}

impl NewEndpoint {
    /// The new endpoint.
    pub(crate) fn made(&self, now: Timestamp) -> Endpoint {
        Endpoint {
            id: self.id,
            url: self.url.clone(),
            filter: self.filter.clone(),
            secret: self.secret.clone(),
            previous: None,
            origin: EndpointOrigin::Api,
            disabled: None,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Endpoint {
    /// The destination and the secrets that sign at `now`.
    pub fn receiver(&self, now: Timestamp) -> Receiver {
        let previous = self.previous.iter().filter(|previous| now < previous.until);
        let secrets = std::iter::once(&self.secret).chain(previous.map(|previous| &previous.secret));
        let secrets = secrets.filter(|secret| !secret.is_absent()).cloned().collect();
        Receiver { endpoint: self.id, url: self.url.clone(), secrets }
    }

    /// The endpoint after a change. A change that is in force already alters nothing, not even the reason and the time.
    pub(crate) fn changed(mut self, change: &EndpointChange, now: Timestamp) -> Self {
        match change {
            EndpointChange::Disable { reason } if self.disabled.is_none() => {
                self.disabled = Some(Disabled { reason: reason.clone(), at: now });
            }
            EndpointChange::Enable if self.disabled.is_some() => self.disabled = None,
            EndpointChange::Filter(filter) if self.filter != *filter => self.filter = filter.clone(),
            EndpointChange::Rotate { secret, overlap } if self.secret != *secret => {
                self.replace_secret(secret, *overlap, now);
            }
            _ => return self,
        }
        self.updated_at = now;
        self
    }

    fn replace_secret(&mut self, secret: &Secret, overlap: Duration, now: Timestamp) {
        let last = std::mem::replace(&mut self.secret, secret.clone());
        let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
        self.previous = (until > now).then_some(PreviousSecret { secret: last, until });
    }

    /// The endpoint of the configuration as it must be stored; `None` if it is stored so already. An endpoint that
    /// was disabled by a 410 or by an operator stays disabled until its URL changes.
    pub(crate) fn configured(
        stored: Option<Self>,
        wanted: Option<&Configured>,
        now: Timestamp,
    ) -> Option<Self> {
        let Some(wanted) = wanted else {
            let stored = stored.filter(|stored| stored.disabled.is_none())?;
            let disable = EndpointChange::Disable { reason: NOT_CONFIGURED.to_owned() };
            return Some(stored.changed(&disable, now));
        };
        let Some(mut endpoint) = stored else {
            let new = NewEndpoint {
                id: EndpointId::ENVIRONMENT,
                url: wanted.url.clone(),
                filter: wanted.filter.clone().unwrap_or_default(),
                secret: wanted.secret.clone(),
            };
            return Some(Self { origin: EndpointOrigin::Environment, ..new.made(now) });
        };
        let before = endpoint.clone();
        let removed = endpoint.disabled.as_ref().is_some_and(|disabled| disabled.reason == NOT_CONFIGURED);
        if removed || endpoint.url != wanted.url {
            endpoint.disabled = None;
        }
        endpoint.url = wanted.url.clone();
        if let Some(filter) = &wanted.filter {
            endpoint.filter = filter.clone();
        }
        if endpoint.secret != wanted.secret {
            endpoint.replace_secret(&wanted.secret, ENVIRONMENT_OVERLAP, now);
        }
        if endpoint == before {
            return None;
        }
        endpoint.updated_at = now;
        Some(endpoint)
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
}

impl WebhookRefusal {
    /// The slug of the problem type, which never changes.
    pub fn slug(self) -> &'static str {
        match self {
            Self::NoEndpoint => "webhook-not-found",
            Self::NoDelivery => "delivery-not-found",
            Self::FromEnvironment => "webhook-of-environment",
        }
    }
}
