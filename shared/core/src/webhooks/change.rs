//! How an endpoint is created and changes, by the API and by the configuration. Each back end applies these rules under
//! a lock of the endpoint.

use std::time::Duration;

use super::{
    Configured, CustomHeaders, Disabled, Endpoint, EndpointId, EndpointOrigin, EndpointUrl, EventFilter,
    NewEndpoint, PREVIOUS_SECRETS_MAX, PreviousSecret, RequestDigest, Secret, WebhookRefusal,
};
use crate::engine::Timestamp;

/// The reason that is stored when the configuration no longer names an endpoint.
pub(crate) const NOT_CONFIGURED: &str = "BESPEAK_WEBHOOK_URL is not set";
/// The reason that is stored while an endpoint is being deleted.
pub(crate) const DELETED: &str = "it is being deleted";
/// The time in which the previous secret of the configuration still signs beside the new one, for receivers that were
/// started with it.
const ENVIRONMENT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The time after its creation in which a retry with the same idempotency key gets the endpoint and its secret.
const CREATION_REPLAYED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A change of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointChange {
    /// Disables the endpoint: nothing is sent to it.
    Disable {
        /// The reason, at most 255 characters.
        reason: String,
    },
    /// Enables the endpoint: pending deliveries are sent too, and earlier failures are forgotten.
    Enable,
    /// Replaces what is given. Pending deliveries stay, and go to the new URL.
    Update(EndpointUpdate),
    /// Replaces the secret. The old one signs beside it for a while.
    Rotate(Rotation),
}

/// New properties of an endpoint; `None` keeps the present one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointUpdate {
    /// The URL. If it moves to another host, headers must be given too: they are secrets of the old one.
    pub url: Option<EndpointUrl>,
    /// The events that it receives.
    pub filter: Option<EventFilter>,
    /// The headers that are added to its deliveries.
    pub headers: Option<CustomHeaders>,
}

/// A rotation of the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The new secret.
    pub secret: Secret,
    /// The time in which the present secret signs beside the new one. Zero ends all earlier secrets at once.
    pub overlap: Duration,
    /// The idempotency key and the request: a retry changes nothing.
    pub request: Option<RequestDigest>,
}

impl EndpointChange {
    /// Whether earlier failures say nothing about the endpoint after this change.
    pub(crate) fn forgets_failures(&self) -> bool {
        match self {
            Self::Enable => true,
            Self::Update(update) => update.url.is_some(),
            Self::Disable { .. } | Self::Rotate(_) => false,
        }
    }
}

impl NewEndpoint {
    /// The new endpoint.
    pub(crate) fn made(&self, now: Timestamp) -> Endpoint {
        Endpoint {
            id: self.id,
            url: self.url.clone(),
            filter: self.filter.clone(),
            headers: self.headers.clone(),
            secret: self.secret.clone(),
            previous: Vec::new(),
            origin: EndpointOrigin::Api,
            disabled: None,
            created_by: self.request,
            rotated_by: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether an endpoint that exists under the id of this one was created by the same request.
    ///
    /// # Errors
    /// It was created by another request under the same key, or so long ago that its secret is not shown again.
    pub(crate) fn replayed(&self, stored: Endpoint, now: Timestamp) -> Result<Endpoint, WebhookRefusal> {
        let age = Duration::try_from(now.duration_since(stored.created_at)).unwrap_or_default();
        // Without a key the id was drawn, so only a second try of the same transaction finds it.
        let is_same = stored.created_by == self.request && !stored.is_being_deleted();
        if is_same && age <= CREATION_REPLAYED_FOR { Ok(stored) } else { Err(WebhookRefusal::KeyReused) }
    }
}

impl Endpoint {
    /// The endpoint after a change. A change that is in force already alters nothing, not even the reason and the time.
    ///
    /// # Errors
    /// The change is refused.
    pub(crate) fn changed(mut self, change: &EndpointChange, now: Timestamp) -> Result<Self, WebhookRefusal> {
        let before = self.clone();
        match change {
            _ if self.is_being_deleted() => return Err(WebhookRefusal::NoEndpoint),
            EndpointChange::Disable { reason } if self.disabled.is_none() => {
                self.disabled = Some(Disabled { reason: reason.clone(), at: now });
            }
            EndpointChange::Disable { .. } => {}
            EndpointChange::Enable => self.disabled = None,
            EndpointChange::Update(update) => self.update(update)?,
            EndpointChange::Rotate(rotation) => self.rotate(rotation, now)?,
        }
        if self != before {
            self.updated_at = now;
        }
        Ok(self)
    }

    fn update(&mut self, update: &EndpointUpdate) -> Result<(), WebhookRefusal> {
        if let Some(url) = &update.url
            && *url != self.url
        {
            if self.origin == EndpointOrigin::Environment {
                return Err(WebhookRefusal::FromEnvironment);
            }
            let moves = url.url().origin() != self.url.url().origin();
            if moves && update.headers.is_none() && !self.headers.is_empty() {
                return Err(WebhookRefusal::HeadersOfOtherHost);
            }
            self.url = url.clone();
        }
        if let Some(filter) = &update.filter {
            self.filter = filter.clone();
        }
        if let Some(headers) = &update.headers {
            self.headers = headers.clone();
        }
        Ok(())
    }

    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) -> Result<(), WebhookRefusal> {
        if self.origin == EndpointOrigin::Environment {
            return Err(WebhookRefusal::FromEnvironment);
        }
        if let (Some(request), Some(last)) = (rotation.request, self.rotated_by)
            && request.key == last.key
        {
            return if request == last { Ok(()) } else { Err(WebhookRefusal::KeyReused) };
        }
        if self.secret == rotation.secret {
            return Ok(());
        }
        self.previous.retain(|previous| now < previous.until && previous.secret != rotation.secret);
        if !rotation.overlap.is_zero() && self.previous.len() >= PREVIOUS_SECRETS_MAX {
            return Err(WebhookRefusal::TooManySecrets);
        }
        self.replace_secret(&rotation.secret, rotation.overlap, now);
        self.rotated_by = rotation.request;
        Ok(())
    }

    /// Replaces the secret. Each earlier one signs until its own end, so a rotation whose answer was lost, and which is
    /// made again, does not cut off the receiver.
    fn replace_secret(&mut self, secret: &Secret, overlap: Duration, now: Timestamp) {
        let last = std::mem::replace(&mut self.secret, secret.clone());
        self.previous.retain(|previous| now < previous.until);
        if overlap.is_zero() {
            self.previous.clear();
        } else {
            let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
            self.previous.insert(0, PreviousSecret { secret: last, until });
            self.previous.truncate(PREVIOUS_SECRETS_MAX);
        }
    }

    /// Whether the endpoint is being deleted: it no longer exists for clients.
    pub(crate) fn is_being_deleted(&self) -> bool {
        self.disabled.as_ref().is_some_and(|disabled| disabled.reason == DELETED)
    }

    /// Whether the configuration named the endpoint once, and no longer does.
    pub fn is_unconfigured(&self) -> bool {
        self.disabled.as_ref().is_some_and(|disabled| disabled.reason == NOT_CONFIGURED)
    }

    /// The endpoint of the configuration as it must be stored; `None` if it is stored so already. An endpoint that
    /// was disabled because of its receiver or by an operator stays disabled until its URL changes.
    pub(crate) fn configured(
        stored: Option<Self>,
        wanted: Option<&Configured>,
        now: Timestamp,
    ) -> Option<Self> {
        let Some(wanted) = wanted else {
            let mut stored = stored.filter(|stored| stored.disabled.is_none())?;
            stored.disabled = Some(Disabled { reason: NOT_CONFIGURED.to_owned(), at: now });
            stored.updated_at = now;
            return Some(stored);
        };
        let Some(mut endpoint) = stored else {
            let new = NewEndpoint {
                id: EndpointId::ENVIRONMENT,
                url: wanted.url.clone(),
                filter: wanted.filter.clone().unwrap_or_default(),
                headers: CustomHeaders::default(),
                secret: wanted.secret.clone(),
                request: None,
            };
            return Some(Self { origin: EndpointOrigin::Environment, ..new.made(now) });
        };
        let before = endpoint.clone();
        let removed = endpoint.is_unconfigured() || endpoint.is_being_deleted();
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
