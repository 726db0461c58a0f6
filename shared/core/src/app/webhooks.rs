//! What triggers ask about webhooks.
//!
//! Never: when something is sent (that is `webhooks/deliver.rs`), what an endpoint's change means (`webhooks/records.rs`).

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::{App, Rejected, Reply, draw_uuid};
use crate::{
    background::RunUntil,
    delivery::{Dispatcher, DispatcherOptions, Message, Received, Sender, SenderOptions},
    dispatch::DispatchError,
    engine::{Timestamp, Violation},
    store::{
        StoreError, WebhookStore,
        webhooks::{Deletion, DeliveryPage, EndpointPage, ReplayPage},
    },
    telemetry, trace,
    webhooks::{
        Delivery, DeliveryId, Endpoint, EndpointChange, EndpointId, EndpointUrl, EventFilter, NewEndpoint,
        Secret, WebhookOptions, WebhookRefusal,
    },
};

/// Deliveries per transaction, where many are changed or deleted.
const STEP: u32 = 500;

/// What a receiver said to a test.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The event that was sent: `webhook-id`.
    pub event_id: Uuid,
    /// What came of it.
    pub received: Received,
    /// How long that took.
    pub took: Duration,
}

/// The parts of an engine that are about webhooks.
pub(super) struct Webhooks {
    store: Arc<dyn WebhookStore>,
    config: WebhookOptions,
    /// Made when something is sent for the first time: reading what the machine trusts takes a while.
    sender: OnceLock<Arc<Sender>>,
    due: Arc<Notify>,
}

impl Webhooks {
    pub(super) fn new(store: Arc<dyn WebhookStore>, config: &WebhookOptions) -> Self {
        Self { store, config: config.clone(), sender: OnceLock::new(), due: Arc::default() }
    }

    pub(super) fn sender(&self) -> Arc<Sender> {
        let options = SenderOptions { allow_private: self.config.allow_private, ..SenderOptions::default() };
        self.sender.get_or_init(|| Arc::new(Sender::new(options))).clone()
    }
}

impl App {
    /// Makes the endpoint of the environment as the configuration has it, and starts the task that delivers.
    ///
    /// # Errors
    /// The database is away.
    pub async fn start_webhooks(&self) -> Result<(), DispatchError> {
        self.configure_webhooks().await?;
        let (store, sender) = (self.webhooks.store.clone(), self.webhooks.sender());
        let dispatcher = Dispatcher::new(store, sender, DispatcherOptions::default());
        let (due, stop) = (self.webhooks.due.clone(), self.background.clone());
        self.tasks.spawn(dispatcher.run(RunUntil::Stopped, due, stop));
        Ok(())
    }

    /// Makes the endpoint of the environment as the configuration has it. Cancel-safe: what was begun is finished.
    pub async fn configure_webhooks(&self) -> Result<(), DispatchError> {
        let wanted = self.webhooks.config.endpoint.clone();
        self.ask_webhooks(async move |store| store.configure_endpoint(wanted.as_ref()).await).await
    }

    /// What wakes the task that delivers: whoever enqueued deliveries calls `notify_one` once they are committed. Nothing
    /// rests on it but how soon they are sent.
    pub fn webhooks_due(&self) -> Arc<Notify> {
        self.webhooks.due.clone()
    }

    /// Parses where an endpoint listens; refuses addresses that are never sent to.
    pub fn webhook_url(&self, field: &str, text: &str) -> Result<EndpointUrl, Violation> {
        let url = EndpointUrl::parse(field, text)?;
        match url.forbidden().filter(|_| !self.webhooks.config.allow_private) {
            Some(forbidden) => Err(Violation::new(field, format!("must be another address: {forbidden}"))),
            None => Ok(url),
        }
    }

    /// Makes an endpoint, with a secret that is drawn where none is given. Cancel-safe: what was begun is finished.
    pub async fn create_webhook(
        &self,
        url: EndpointUrl,
        filter: EventFilter,
        secret: Option<Secret>,
    ) -> Result<Endpoint, DispatchError> {
        let id = EndpointId::from_uuid(draw_uuid());
        let new = NewEndpoint { id, url, filter, secret: secret.unwrap_or_else(draw_secret) };
        self.ask_webhooks(async move |store| store.create_endpoint(&new).await).await
    }

    /// A page of endpoints, in id order. Cancel-safe.
    pub async fn webhooks(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
        self.dispatch.read(self.webhooks.store.endpoints(page)).await
    }

    /// An endpoint. Cancel-safe.
    pub async fn webhook(&self, id: EndpointId) -> Reply<Endpoint, WebhookRefusal> {
        let found = self.dispatch.read(self.webhooks.store.endpoint(id)).await?;
        found.ok_or(Rejected::Refused(WebhookRefusal::NoEndpoint))
    }

    /// Changes an endpoint; gives it as it is afterwards. Cancel-safe: what was begun is finished.
    pub async fn change_webhook(
        &self,
        id: EndpointId,
        change: EndpointChange,
    ) -> Reply<Endpoint, WebhookRefusal> {
        let goes_on = change == EndpointChange::Enable;
        let changed = self.ask_webhooks(async move |store| store.change_endpoint(id, &change).await).await?;
        if goes_on {
            self.webhooks.due.notify_one();
        }
        changed.ok_or(Rejected::Refused(WebhookRefusal::NoEndpoint))
    }

    /// Replaces an endpoint's secret by a new one; both sign for a while. Cancel-safe: what was begun is finished.
    pub async fn rotate_webhook(&self, id: EndpointId, overlap: Duration) -> Reply<Endpoint, WebhookRefusal> {
        if id == EndpointId::ENVIRONMENT {
            return Err(Rejected::Refused(WebhookRefusal::FromEnvironment));
        }
        self.change_webhook(id, EndpointChange::Rotate { secret: draw_secret(), overlap }).await
    }

    /// Deletes an endpoint and its deliveries, some hundred per transaction. Cancel-safe: what was begun is finished; where
    /// the process ends before that, the endpoint is left disabled, and may be deleted again.
    pub async fn delete_webhook(&self, id: EndpointId) -> Reply<(), WebhookRefusal> {
        if id == EndpointId::ENVIRONMENT {
            return Err(Rejected::Refused(WebhookRefusal::FromEnvironment));
        }
        let is_known = self
            .ask_webhooks(async move |store| {
                loop {
                    match store.delete_endpoint(id, STEP).await? {
                        Deletion::More => {}
                        Deletion::Unknown => return Ok(false),
                        Deletion::Done => return Ok(true),
                    }
                }
            })
            .await?;
        if is_known { Ok(()) } else { Err(Rejected::Refused(WebhookRefusal::NoEndpoint)) }
    }

    /// Sends an endpoint a `bespeak.webhook.test.v1` at once, whether or not it is enabled, and says what came of it. It is
    /// no delivery: nothing is kept of it, and it is not sent again. Cancel-safe.
    pub async fn test_webhook(&self, id: EndpointId) -> Reply<Tested, WebhookRefusal> {
        let endpoint = self.webhook(id).await?;
        let (event_id, now) = (draw_uuid(), Timestamp::now());
        let body = serde_json::json!({
            "type": "bespeak.webhook.test.v1",
            "endpointId": id.to_string(),
            "timestamp": now,
        });
        let message = Message { id: event_id, body: body.to_string(), trace: trace::current() };
        let started = Instant::now();
        let received = self.webhooks.sender().send(&endpoint.receiver(now), &message, now).await;
        Ok(Tested { event_id, received, took: started.elapsed() })
    }

    /// A page of an endpoint's deliveries, the newest first. Cancel-safe.
    pub async fn webhook_deliveries(&self, page: DeliveryPage) -> Reply<Vec<Delivery>, WebhookRefusal> {
        let found = self.dispatch.read(self.webhooks.store.deliveries(page)).await?;
        if found.is_empty() {
            self.webhook(page.endpoint).await?;
        }
        Ok(found)
    }

    /// Makes a delivery pending again, whatever it was. Cancel-safe: what was begun is finished.
    pub async fn redeliver_webhook(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Reply<Delivery, WebhookRefusal> {
        let found = self.ask_webhooks(async move |store| store.redeliver(endpoint, delivery).await).await?;
        self.webhooks.due.notify_one();
        if let Some(delivery) = found {
            return Ok(delivery);
        }
        self.webhook(endpoint).await?;
        Err(Rejected::Refused(WebhookRefusal::NoDelivery))
    }

    /// Makes all deliveries pending again whose events happened from `from` until before `to`, some hundred per
    /// transaction; says how many. Cancel-safe: what was begun is finished.
    pub async fn replay_webhook(
        &self,
        endpoint: EndpointId,
        from: Timestamp,
        to: Timestamp,
    ) -> Reply<u64, WebhookRefusal> {
        self.webhook(endpoint).await?;
        let due = self.webhooks.due.clone();
        let replayed = self
            .ask_webhooks(async move |store| {
                let mut page = ReplayPage { endpoint, from, to, after: None, limit: STEP };
                let mut deliveries = 0;
                loop {
                    let replayed = store.replay(page).await?;
                    due.notify_one();
                    deliveries += replayed.deliveries;
                    match replayed.next {
                        Some(next) => page.after = Some(next),
                        None => return Ok(deliveries),
                    }
                }
            })
            .await?;
        Ok(replayed)
    }

    pub(super) async fn refresh_webhook_metrics(&self) {
        if let Ok(pending) = self.dispatch.read(self.webhooks.store.pending_deliveries()).await {
            telemetry::set_webhook_backlog(pending.waiting, pending.stopped, pending.overdue);
        }
    }

    /// Asks the store something in a task of its own, which goes on where the caller goes away. A failure is logged here.
    async fn ask_webhooks<T, F>(
        &self,
        question: impl FnOnce(Arc<dyn WebhookStore>) -> F,
    ) -> Result<T, DispatchError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let asked = self.tasks.spawn(question(self.webhooks.store.clone())).await;
        let Ok(answer) = asked else { return Err(DispatchError::Panicked) };
        Ok(self.dispatch.read(async { answer }).await?)
    }
}

/// A new secret, from a cryptographic generator.
fn draw_secret() -> Secret {
    Secret::from_key(rand::random())
}
