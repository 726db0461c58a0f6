//! What the books hold of webhooks, and how an endpoint changes: rules without I/O, the same for every back end.

use std::time::Duration;

use uuid::Uuid;

use super::{DeliveryId, EndpointId, EndpointUrl, EventFilter, Secret};
use crate::engine::Timestamp;

/// Why the endpoint of the environment is disabled where the configuration names none any more.
const NOT_CONFIGURED: &str = "BESPEAK_WEBHOOK_URL is not set";
/// Why an endpoint is disabled that is about to be deleted.
pub(crate) const DELETED: &str = "it is being deleted";
/// How long the last secret of the environment signs beside the new one: what was started with it may run on.
const ENVIRONMENT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Who made an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody over HTTP.
    Api,
    /// The configuration. Its URL and secret are changed there.
    Environment,
}

impl Origin {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Environment => "environment",
        }
    }

    /// Parses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Api, Self::Environment].into_iter().find(|origin| origin.as_str() == text)
    }
}

/// A secret that was replaced, and still signs for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: Secret,
    /// From then on it signs no more.
    pub until: Timestamp,
}

/// That and why nothing is sent to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// Somebody who asked to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where it listens.
    pub url: EndpointUrl,
    /// What it is told of.
    pub filter: EventFilter,
    /// What signs.
    pub secret: Secret,
    /// What signed before.
    pub previous: Option<PreviousSecret>,
    /// Who made it.
    pub origin: Origin,
    /// Whether nothing is sent to it. Its deliveries are kept, and go on once it is enabled.
    pub disabled: Option<Disabled>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An endpoint that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Its id, drawn by who asks.
    pub id: EndpointId,
    /// Where it listens.
    pub url: EndpointUrl,
    /// What it is told of.
    pub filter: EventFilter,
    /// What signs.
    pub secret: Secret,
}

/// The endpoint that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Where it listens.
    pub url: EndpointUrl,
    /// What signs.
    pub secret: Secret,
}

/// What is changed about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointChange {
    /// Nothing is sent to it from now on.
    Disable {
        /// Why, in at most 255 characters.
        reason: String,
    },
    /// Everything is sent to it from now on, what waited as well.
    Enable,
    /// It is told of other events from now on.
    Filter(EventFilter),
    /// A new secret signs from now on; the last one beside it, for a while.
    Rotate {
        /// The new one.
        secret: Secret,
        /// For how long both sign.
        overlap: Duration,
    },
}

/// Where to send, and what signs at the moment.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Where it listens.
    pub url: EndpointUrl,
    /// One secret, or two while a rotation is under way; the newest first.
    pub secrets: Vec<Secret>,
}

impl NewEndpoint {
    /// The endpoint as it begins.
    pub(crate) fn made(&self, now: Timestamp) -> Endpoint {
        Endpoint {
            id: self.id,
            url: self.url.clone(),
            filter: self.filter.clone(),
            secret: self.secret.clone(),
            previous: None,
            origin: Origin::Api,
            disabled: None,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Endpoint {
    /// Where to send and what signs at `now`.
    pub fn receiver(&self, now: Timestamp) -> Receiver {
        let previous = self.previous.iter().filter(|previous| now < previous.until);
        let secrets = std::iter::once(&self.secret).chain(previous.map(|previous| &previous.secret));
        Receiver { endpoint: self.id, url: self.url.clone(), secrets: secrets.cloned().collect() }
    }

    /// The endpoint after a change. What is so already stays as it is, its reason and its time included.
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

    /// The endpoint of the environment as it must be, where it is not so yet. Whoever disabled it (with 410, or by hand)
    /// is listened to until the URL is another one.
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
                filter: EventFilter::default(),
                secret: wanted.secret.clone(),
            };
            return Some(Self { origin: Origin::Environment, ..new.made(now) });
        };
        let before = endpoint.clone();
        let removed = endpoint.disabled.as_ref().is_some_and(|disabled| disabled.reason == NOT_CONFIGURED);
        if removed || endpoint.url != wanted.url {
            endpoint.disabled = None;
        }
        endpoint.url = wanted.url.clone();
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

/// Where a delivery is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// An attempt is to be made, or under way.
    Pending,
    /// The receiver answered 2xx.
    Delivered,
    /// Given up.
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

/// An event that an endpoint is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whom.
    pub endpoint: EndpointId,
    /// Of which event: the header `webhook-id`.
    pub event_id: Uuid,
    /// Its CloudEvents type.
    pub event_type: String,
    /// When it happened.
    pub event_at: Timestamp,
    /// Where it is.
    pub status: DeliveryStatus,
    /// Attempts whose end is known, since it was enqueued or sent again by hand.
    pub attempts: u32,
    /// When the next attempt is due, or when the claim of the one under way runs out.
    pub next_attempt_at: Option<Timestamp>,
    /// What the receiver answered last.
    pub last_status: Option<u16>,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Why a request about webhooks had no effect: what whoever sent it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// The endpoint has no such delivery.
    #[error("the endpoint has no such delivery")]
    NoDelivery,
    /// Its URL and secret are the configuration's.
    #[error("the endpoint is the configuration's: change BESPEAK_WEBHOOK_URL and BESPEAK_WEBHOOK_SECRET")]
    FromEnvironment,
}

impl WebhookRefusal {
    /// A stable name.
    pub fn slug(self) -> &'static str {
        match self {
            Self::NoEndpoint => "webhook-not-found",
            Self::NoDelivery => "delivery-not-found",
            Self::FromEnvironment => "webhook-of-environment",
        }
    }
}
