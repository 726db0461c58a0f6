//! The calls that triggers make about webhooks.
//!
//! Never: when something is sent (see `delivery/dispatcher.rs`) or what the change of an endpoint means (see
//! `webhooks/records.rs`).

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{App, Rejected, Reply, StartError, draw_uuid};
use crate::{
    background::RunUntil,
    delivery::{Dispatcher, DispatcherOptions, Message, NoWebhooksClient, Received, Sender, SenderOptions},
    dispatch::DispatchError,
    engine::{Timestamp, Violation},
    store::{
        StoreError, WebhookStore,
        webhooks::{Deletion, DeliveryPage, EndpointPage, ReplayPage},
    },
    supervision::Ends,
    telemetry, trace,
    webhooks::{
        Delivery, DeliveryId, Endpoint, EndpointChange, EndpointId, EndpointUrl, EventFilter, NewEndpoint,
        Secret, WebhookOptions, WebhookRefusal,
    },
};

/// Deliveries in one transaction, if many are changed or deleted.
const STEP: u32 = 500;

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

/// The parts of an engine that concern webhooks.
pub(super) struct Webhooks {
    store: Arc<dyn WebhookStore>,
    config: WebhookOptions,
    /// Made when something is sent for the first time, because loading the machine's trusted certificates takes a
    /// while.
    sender: OnceLock<Arc<Sender>>,
    due: Arc<Notify>,
}

impl Webhooks {
    pub(super) fn new(store: Arc<dyn WebhookStore>, config: &WebhookOptions) -> Self {
        Self { store, config: config.clone(), sender: OnceLock::new(), due: Arc::default() }
    }

    pub(super) fn sender(&self) -> Result<Arc<Sender>, NoWebhooksClient> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender.clone());
        }
        let options = SenderOptions { allow_private: self.config.allow_private, ..SenderOptions::default() };
        let sender = Arc::new(Sender::new(options)?);
        Ok(self.sender.get_or_init(|| sender).clone())
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
        let dispatcher = Dispatcher::new(store, sender, DispatcherOptions::default());
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

    /// Parses the URL of an endpoint, and refuses addresses to which nothing is ever sent.
    pub fn webhook_url(&self, field: &str, text: &str) -> Result<EndpointUrl, Violation> {
        let url = EndpointUrl::parse(field, text)?;
        match url.forbidden().filter(|_| !self.webhooks.config.allow_private) {
            Some(forbidden) => Err(Violation::new(field, format!("must be another address: {forbidden}"))),
            None => Ok(url),
        }
    }

    /// Creates an endpoint; a secret is drawn if none is given. Cancel-safe: a transaction that has begun is
    /// finished.
    pub async fn create_webhook(
        &self,
        url: EndpointUrl,
        filter: EventFilter,
        secret: Option<Secret>,
    ) -> Result<Endpoint, DispatchError> {
        let id = EndpointId::from_uuid(draw_uuid());
        let new = NewEndpoint { id, url, filter, secret: secret.unwrap_or_else(draw_secret) };
        self.run_webhook_transaction(async move |store| store.create_endpoint(&new).await).await
    }

    /// A page of endpoints in id order. Cancel-safe.
    pub async fn webhooks(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
        self.dispatch.read(self.webhooks.store.endpoints(page)).await
    }

    /// An endpoint. Cancel-safe.
    pub async fn webhook(&self, id: EndpointId) -> Reply<Endpoint, WebhookRefusal> {
        let found = self.dispatch.read(self.webhooks.store.endpoint(id)).await?;
        found.ok_or(Rejected::Refused(WebhookRefusal::NoEndpoint))
    }

    /// Changes an endpoint, and returns it as it is afterwards. Cancel-safe: a transaction that has begun is
    /// finished.
    pub async fn change_webhook(
        &self,
        id: EndpointId,
        change: EndpointChange,
    ) -> Reply<Endpoint, WebhookRefusal> {
        let is_enabled = change == EndpointChange::Enable;
        let changed =
            self.run_webhook_transaction(async move |store| store.change_endpoint(id, &change).await).await?;
        if is_enabled {
            self.webhooks.due.notify_one();
        }
        changed.ok_or(Rejected::Refused(WebhookRefusal::NoEndpoint))
    }

    /// Replaces the secret of an endpoint by a new one; both sign for the time of `overlap`. Cancel-safe: a
    /// transaction that has begun is finished.
    pub async fn rotate_webhook(&self, id: EndpointId, overlap: Duration) -> Reply<Endpoint, WebhookRefusal> {
        if id == EndpointId::ENVIRONMENT {
            return Err(Rejected::Refused(WebhookRefusal::FromEnvironment));
        }
        self.change_webhook(id, EndpointChange::Rotate { secret: draw_secret(), overlap }).await
    }

    /// Deletes an endpoint and its deliveries, up to 500 in one transaction. Cancel-safe: it is finished even if the
    /// caller goes away. If the process ends before that, the endpoint stays disabled and may be deleted again.
    pub async fn delete_webhook(&self, id: EndpointId) -> Reply<(), WebhookRefusal> {
        if id == EndpointId::ENVIRONMENT {
            return Err(Rejected::Refused(WebhookRefusal::FromEnvironment));
        }
        let stop = self.supervisor.stopping();
        let is_known = self
            .run_webhook_transaction(async move |store| {
                while !stop.is_cancelled() {
                    match store.delete_endpoint(id, STEP).await? {
                        Deletion::More => {}
                        Deletion::Unknown => return Ok(Some(false)),
                        Deletion::Done => return Ok(Some(true)),
                    }
                }
                Ok(None)
            })
            .await?
            .ok_or(DispatchError::Stopping)?;
        if is_known { Ok(()) } else { Err(Rejected::Refused(WebhookRefusal::NoEndpoint)) }
    }

    /// Sends a `bespeak.webhook.test.v1` to an endpoint at once, whether or not it is enabled, and returns the
    /// result. It is not a delivery: it is neither stored nor retried. Cancel-safe.
    pub async fn test_webhook(&self, id: EndpointId) -> Reply<WebhookTest, WebhookRefusal> {
        let endpoint = self.webhook(id).await?;
        let (event_id, now) = (draw_uuid(), Timestamp::now());
        let body = serde_json::json!({
            "type": "bespeak.webhook.test.v1",
            "endpointId": id.to_string(),
            "timestamp": now,
        });
        let message = Message { id: event_id, body: body.to_string(), trace: trace::current() };
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

    /// Makes all deliveries pending again whose events happened from `from` until before `to`, up to 500 in one
    /// transaction, and returns how many. Cancel-safe: it is finished even if the caller goes away.
    pub async fn replay_webhook(
        &self,
        endpoint: EndpointId,
        from: Timestamp,
        to: Timestamp,
    ) -> Reply<u64, WebhookRefusal> {
        self.webhook(endpoint).await?;
        let (due, stop) = (self.webhooks.due.clone(), self.supervisor.stopping());
        let replayed = self
            .run_webhook_transaction(async move |store| {
                let mut page = ReplayPage { endpoint, from, to, after: None, limit: STEP };
                let mut deliveries = 0;
                while !stop.is_cancelled() {
                    let replayed = store.replay(page).await?;
                    due.notify_one();
                    deliveries += replayed.deliveries;
                    match replayed.next {
                        Some(next) => page.after = Some(next),
                        None => return Ok(Some(deliveries)),
                    }
                }
                Ok(None)
            })
            .await?;
        Ok(replayed.ok_or(DispatchError::Stopping)?)
    }

    pub(super) async fn refresh_webhook_metrics(&self) {
        if let Ok(pending) = self.dispatch.read(self.webhooks.store.pending_deliveries()).await {
            telemetry::set_webhook_backlog(pending.waiting, pending.stopped, pending.overdue);
        }
    }

    /// Runs a transaction on webhooks in a task of its own, which continues if the caller goes away. Logs a failure.
    async fn run_webhook_transaction<T, F>(
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
