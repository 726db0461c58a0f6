//! The calls that triggers make about webhooks.
//!
//! Never: when something is sent (see `delivery/dispatcher.rs`) or what the change of an endpoint means (see
//! `webhooks/records.rs`).

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{App, Rejected, Reply, StartError, draw_uuid};
use crate::{
    background::RunUntil,
    delivery::{Dispatcher, DispatcherOptions, Message, NoWebhooksClient, Received, Sender, SenderOptions},
    dispatch::DispatchError,
    engine::{Timestamp, Violation},
    envelope::webhook_test_body,
    store::{
        StoreError, WebhookStore,
        webhooks::{CreatedEndpoint, Deletion, DeliveryPage, EndpointPage},
    },
    supervision::Ends,
    telemetry, trace,
    webhooks::{
        Circuit, CustomHeaders, Delivery, DeliveryId, Endpoint, EndpointChange, EndpointHealth, EndpointId,
        EndpointUrl, EventFilter, NewEndpoint, RequestDigest, Rotation, Secret, WebhookOptions,
        WebhookRefusal,
    },
};

/// Deliveries in one transaction, if many are changed or deleted.
pub(super) const STEP: u32 = 500;
/// The steps that one request takes. The rest of a deletion goes on in the background, and the rest of a replay in
/// further requests.
pub(super) const STEPS_MAX: u32 = 20;
/// The pause between the steps of a deletion in the background.
const PAUSE: Duration = Duration::from_millis(50);
/// The most test deliveries at the same time.
const TESTS_MAX: usize = 8;
/// The most replays and deletions at the same time, because they share the connections that write.
const CHANGES_MAX: usize = 2;

/// The result of a test delivery.
#[derive(Clone, Debug)]
pub struct WebhookTest {
    /// The id of the test event, which was sent as `webhook-id`.
    pub event_id: Uuid,
    /// The response of the receiver, or why there was none.
    pub received: Received,
    /// The duration of the attempt.
    pub took: Duration,
}

/// An endpoint, and what is known of its receiver.
#[derive(Clone, Debug)]
pub struct WebhookState {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The state of its circuit breaker.
    pub circuit: Circuit,
    /// What dispatchers have learned about its receiver.
    pub health: EndpointHealth,
}

/// A request to create an endpoint.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its URL, which [`App::webhook_url`] has accepted.
    pub url: EndpointUrl,
    /// The events that it receives.
    pub filter: EventFilter,
    /// Headers that are added to its deliveries.
    pub headers: CustomHeaders,
    /// The secret that signs; one is drawn if it is `None`.
    pub secret: Option<Secret>,
    /// An idempotency key, which makes it safe to retry the request.
    pub key: Option<String>,
}

/// The parts of an engine that concern webhooks.
pub(super) struct Webhooks {
    pub(super) store: Arc<dyn WebhookStore>,
    config: WebhookOptions,
    /// The CloudEvents source of events.
    pub(super) source: String,
    /// Made when something is sent for the first time, because loading the machine's trusted certificates takes a
    /// while.
    sender: OnceLock<Arc<Sender>>,
    pub(super) due: Arc<Notify>,
    tests: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

impl Webhooks {
    pub(super) fn new(store: Arc<dyn WebhookStore>, config: &WebhookOptions, source: &str) -> Self {
        Self {
            store,
            config: config.clone(),
            source: source.to_owned(),
            sender: OnceLock::new(),
            due: Arc::default(),
            tests: Arc::new(Semaphore::new(TESTS_MAX)),
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
        }
    }

    pub(super) fn sender(&self) -> Result<Arc<Sender>, NoWebhooksClient> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender.clone());
        }
        let options = SenderOptions { policy: self.config.policy.clone(), ..SenderOptions::default() };
        let sender = Arc::new(Sender::new(options)?);
        Ok(self.sender.get_or_init(|| sender).clone())
    }

    /// The options of a dispatcher.
    pub(super) fn dispatcher_options(&self) -> DispatcherOptions {
        DispatcherOptions { limits: self.config.limits, ..DispatcherOptions::default() }
    }
}

impl App {
    /// Stores the endpoint of the environment as configured, and starts the task that delivers webhooks.
    ///
    /// # Errors
    /// The database is unavailable, or the configuration has an endpoint and this build has no client to deliver with.
    pub async fn start_webhooks(&self) -> Result<(), StartError> {
        let sender = match self.webhooks.sender() {
            Ok(sender) => sender,
            Err(absent) if self.webhooks.config.endpoint.is_some() => return Err(absent.into()),
            Err(absent) => {
                tracing::warn!("this process delivers no webhooks: {absent}");
                return Ok(self.configure_webhooks().await?);
            }
        };
        self.configure_webhooks().await?;
        let store = self.webhooks.store.clone();
        let dispatcher = Dispatcher::new(store, sender, self.webhooks.dispatcher_options());
        let (due, stop) = (self.webhooks.due.clone(), self.supervisor.stopping());
        let run = dispatcher.run(RunUntil::Stopped, due, stop);
        self.supervisor.spawn("webhooks", Ends::AtShutdown, run.map(drop));
        Ok(())
    }

    /// Stores the endpoint of the environment as configured. Cancel-safe: a transaction that has begun is finished.
    pub async fn configure_webhooks(&self) -> Result<(), DispatchError> {
        let wanted = self.webhooks.config.endpoint.clone();
        self.run_webhook_transaction(async move |store| store.configure_endpoint(wanted.as_ref()).await).await
    }

    /// Wakes the task that delivers webhooks. Code that enqueues deliveries calls `notify_one` after they are
    /// committed; a missed notification only delays them.
    pub fn webhooks_due(&self) -> Arc<Notify> {
        self.webhooks.due.clone()
    }

    /// Parses the URL of an endpoint, and refuses URLs to which nothing is ever sent.
    pub fn webhook_url(&self, field: &str, text: &str) -> Result<EndpointUrl, Violation> {
        // The normal form of a URL without a path is longer by a slash.
        if text.len() >= EndpointUrl::LENGTH_MAX {
            let expected = format!("must have at most {} characters", EndpointUrl::LENGTH_MAX - 1);
            return Err(Violation::new(field, expected));
        }
        let url = EndpointUrl::parse(field, text)?;
        match self.webhooks.config.policy.refuses_new(&url) {
            Some(forbidden) => Err(Violation::new(field, format!("must be another: {forbidden}"))),
            None => Ok(url),
        }
    }

    /// Creates an endpoint; with an idempotency key, a retry within a day gets the endpoint that the first request
    /// created. Cancel-safe: a transaction that has begun is finished.
    pub async fn create_webhook(&self, new: NewWebhook) -> Reply<CreatedEndpoint, WebhookRefusal> {
        let NewWebhook { url, filter, headers, secret, key } = new;
        let stored_headers = headers.as_stored().unwrap_or_default();
        let parts =
            [url.as_str(), filter.as_text(), &stored_headers, secret.as_ref().map_or("", Secret::reveal)];
        let request = key.as_deref().map(|key| RequestDigest::new(key, &parts));
        let id = key.as_deref().map_or_else(|| EndpointId::from_uuid(draw_uuid()), EndpointId::of_key);
        let secret = secret.unwrap_or_else(draw_secret);
        let new = NewEndpoint { id, url, filter, headers, secret, request };
        let max = self.webhooks.config.limits.endpoints_max;
        let created =
            self.run_webhook_transaction(async move |store| store.create_endpoint(&new, max).await).await?;
        created.map_err(Rejected::Refused)
    }

    /// A page of endpoints in id order. Cancel-safe.
    pub async fn webhooks(&self, page: EndpointPage) -> Result<Vec<WebhookState>, StoreError> {
        let endpoints = self.dispatch.read(self.webhooks.store.endpoints(page)).await?;
        let report = self.dispatch.read(self.webhooks.store.endpoint_health()).await?;
        let state = |endpoint: Endpoint| {
            let health = report.endpoints.get(&endpoint.id).copied().unwrap_or_default();
            WebhookState { circuit: health.circuit(report.now), health, endpoint }
        };
        Ok(endpoints.into_iter().map(state).collect())
    }

    /// An endpoint. Cancel-safe.
    pub async fn webhook(&self, id: EndpointId) -> Reply<WebhookState, WebhookRefusal> {
        let found = self.dispatch.read(self.webhooks.store.endpoint(id)).await?;
        self.webhook_state(found.ok_or(Rejected::Refused(WebhookRefusal::NoEndpoint))?).await
    }

    /// Adds what is known of its receiver to an endpoint. Cancel-safe.
    async fn webhook_state(&self, endpoint: Endpoint) -> Reply<WebhookState, WebhookRefusal> {
        let report = self.dispatch.read(self.webhooks.store.endpoint_health()).await?;
        let health = report.endpoints.get(&endpoint.id).copied().unwrap_or_default();
        Ok(WebhookState { circuit: health.circuit(report.now), health, endpoint })
    }

    /// Changes an endpoint, and returns it as it is afterwards. Cancel-safe: a transaction that has begun is
    /// finished.
    pub async fn change_webhook(
        &self,
        id: EndpointId,
        change: EndpointChange,
    ) -> Reply<WebhookState, WebhookRefusal> {
        let wakes = matches!(change, EndpointChange::Enable | EndpointChange::Update(_));
        let changed =
            self.run_webhook_transaction(async move |store| store.change_endpoint(id, &change).await).await?;
        if wakes {
            self.webhooks.due.notify_one();
        }
        self.webhook_state(changed.map_err(Rejected::Refused)?).await
    }

    /// Replaces the secret of an endpoint, by a new one if none is given; both sign for the time of `overlap`. With an
    /// idempotency key, a retry gets the endpoint as the first request left it. Cancel-safe: a transaction that has
    /// begun is finished.
    pub async fn rotate_webhook(
        &self,
        id: EndpointId,
        overlap: Duration,
        secret: Option<Secret>,
        key: Option<&str>,
    ) -> Reply<WebhookState, WebhookRefusal> {
        let seconds = overlap.as_secs().to_string();
        let parts = [&*seconds, secret.as_ref().map_or("", Secret::reveal)];
        let request = key.map(|key| RequestDigest::new(key, &parts));
        let rotation = Rotation { secret: secret.unwrap_or_else(draw_secret), overlap, request };
        self.change_webhook(id, EndpointChange::Rotate(rotation)).await
    }

    /// Deletes an endpoint and its deliveries. From the first step on it does not exist for clients; if it has many
    /// deliveries, the rest of them is deleted in the background, or by the purge of any process. Cancel-safe: it goes
    /// on even if the caller goes away.
    pub async fn delete_webhook(&self, id: EndpointId) -> Reply<(), WebhookRefusal> {
        let permit = self.begin_webhook_change()?;
        let endpoint = self.webhook(id).await?.endpoint;
        if id == EndpointId::ENVIRONMENT && !endpoint.is_unconfigured() {
            return Err(Rejected::Refused(WebhookRefusal::FromEnvironment));
        }
        let stop = self.supervisor.stopping();
        let deletion = self
            .run_webhook_transaction(async move |store| {
                for _ in 0..STEPS_MAX {
                    match store.delete_endpoint(id, STEP).await? {
                        Deletion::More if !stop.is_cancelled() => {}
                        deletion => return Ok(deletion),
                    }
                }
                Ok(Deletion::More)
            })
            .await?;
        match deletion {
            Deletion::Unknown => return Err(Rejected::Refused(WebhookRefusal::NoEndpoint)),
            Deletion::Done => {}
            Deletion::More => self.finish_deletion(permit),
        }
        Ok(())
    }

    /// A place among the replays and deletions that run at the same time, unless the engine shuts down.
    pub(super) fn begin_webhook_change(&self) -> Result<OwnedSemaphorePermit, Rejected<WebhookRefusal>> {
        if self.supervisor.stopping().is_cancelled() {
            return Err(Rejected::Failed(DispatchError::Stopping));
        }
        let places = self.webhooks.changes.clone();
        places.try_acquire_owned().map_err(|_| Rejected::Refused(WebhookRefusal::Busy))
    }

    /// Deletes what is left of a deleted endpoint, step by step, until the engine shuts down.
    fn finish_deletion(&self, permit: OwnedSemaphorePermit) {
        let (store, stop) = (self.webhooks.store.clone(), self.supervisor.stopping());
        self.supervisor.spawn("webhook-deletion", Ends::WhenDone, async move {
            let _permit = permit;
            while !stop.is_cancelled() {
                match store.continue_deletion(STEP).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // The purge goes on with it later.
                    Err(error) => {
                        let reason = telemetry::chain(&error);
                        tracing::warn!(reason, "the deletion of a webhook endpoint is put off");
                        break;
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
    }

    /// Sends a `bespeak.webhook.test.v1` to an endpoint at once, whether or not it is enabled, and returns the
    /// result. It is not a delivery: it is neither stored nor retried, and says nothing about the health of the
    /// endpoint. Cancel-safe.
    pub async fn test_webhook(&self, id: EndpointId) -> Reply<WebhookTest, WebhookRefusal> {
        let endpoint = self.webhook(id).await?.endpoint;
        let Ok(_permit) = self.webhooks.tests.try_acquire() else {
            return Err(Rejected::Refused(WebhookRefusal::Busy));
        };
        let (event_id, now) = (draw_uuid(), Timestamp::now());
        let body = webhook_test_body(id.uuid(), now);
        let message = Message { id: event_id, body, trace: trace::current() };
        let started = Instant::now();
        let received = match self.webhooks.sender() {
            _ if !self.webhooks.config.deliver => {
                let reason = "this process delivers no webhooks: it runs with BESPEAK_WEBHOOKS=off";
                Received::Nothing { reason: reason.to_owned() }
            }
            Ok(sender) => sender.send(&endpoint.receiver(now), &message, now).await,
            Err(absent) => Received::Nothing { reason: absent.to_string() },
        };
        Ok(WebhookTest { event_id, received, took: started.elapsed() })
    }

    /// A page of the deliveries of an endpoint, the newest first. Cancel-safe.
    pub async fn webhook_deliveries(&self, page: DeliveryPage) -> Reply<Vec<Delivery>, WebhookRefusal> {
        let found = self.dispatch.read(self.webhooks.store.deliveries(page)).await?;
        if found.is_empty() {
            self.webhook(page.endpoint).await?;
        }
        Ok(found)
    }

    /// Makes a delivery pending again, whatever its status. Cancel-safe: a transaction that has begun is finished.
    pub async fn redeliver_webhook(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Reply<Delivery, WebhookRefusal> {
        let found = self
            .run_webhook_transaction(async move |store| store.redeliver(endpoint, delivery).await)
            .await?;
        self.webhooks.due.notify_one();
        if let Some(delivery) = found {
            return Ok(delivery);
        }
        self.webhook(endpoint).await?;
        Err(Rejected::Refused(WebhookRefusal::NoDelivery))
    }

    pub(super) async fn refresh_webhook_metrics(&self) {
        if let Ok(pending) = self.dispatch.read(self.webhooks.store.pending_deliveries()).await {
            telemetry::set_webhook_backlog(pending.waiting, pending.stopped, pending.overdue);
        }
        let all =
            EndpointPage { after: None, limit: self.webhooks.config.limits.endpoints_max.saturating_add(1) };
        if let Ok(endpoints) = self.webhooks(all).await {
            let count = |wanted: &str| {
                let state = |state: &&WebhookState| match state.circuit {
                    _ if state.endpoint.disabled.is_some() => "disabled" == wanted,
                    Circuit::Closed => "closed" == wanted,
                    Circuit::Open(_) => "open" == wanted,
                    Circuit::HalfOpen => "half_open" == wanted,
                };
                endpoints.iter().filter(state).count() as u64
            };
            let states = ["closed", "open", "half_open", "disabled"].map(|state| (state, count(state)));
            telemetry::set_webhook_endpoints(&states);
        }
    }

    /// Runs a transaction on webhooks in a task of its own, which continues if the caller goes away. Logs a failure.
    pub(super) async fn run_webhook_transaction<T, F>(
        &self,
        transaction: impl FnOnce(Arc<dyn WebhookStore>) -> F,
    ) -> Result<T, DispatchError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let ended = self.supervisor.tracker().spawn(transaction(self.webhooks.store.clone())).await;
        let Ok(result) = ended else { return Err(DispatchError::Panicked) };
        Ok(self.dispatch.read(async { result }).await?)
    }
}

/// Draws a secret from a cryptographic generator.
fn draw_secret() -> Secret {
    Secret::from_key(rand::random())
}
