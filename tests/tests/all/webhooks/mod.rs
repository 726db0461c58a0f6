//! Webhooks from the side of receivers and operators.

mod api;
mod changes;
mod command;
mod dispatchers;
mod health;
mod replays;
mod sending;

use std::{sync::Arc, time::Duration};

use bespeak::{
    delivery::{DeliveryStep, Dispatcher, DispatcherOptions, Sender, SenderOptions},
    engine::Timestamp,
    store::{Database, FixedClock, Guard, WebhookStore, conformance::Enqueued},
    webhooks::{DeliveryPolicy, EndpointId},
};
use bespeak_tests::{Api, Books, Receiver};
use serde_json::{Value, json};
use uuid::Uuid;

const ALLOWED: (&str, &str) = ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true");
/// The timeout of an attempt in tests where it must expire.
const SHORT: Duration = Duration::from_millis(300);

/// An engine with a fixed clock, whose webhooks may be sent to this machine.
struct Hooks {
    api: Api,
    clock: FixedClock,
    store: Arc<dyn Database>,
}

impl Hooks {
    async fn start(books: Books) -> Self {
        Self::with(books, &[ALLOWED]).await
    }

    async fn with(books: Books, settings: &[(&str, &str)]) -> Self {
        let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
        let api = Api::with(books, settings, Some(&clock)).await;
        let store = api.books.open(Some(&clock), Guard::RowLock).await;
        Self { api, clock, store }
    }

    /// A dispatcher like that of another process, with a short timeout, which begins all attempts at once.
    fn dispatcher(&self) -> Dispatcher {
        let options = DispatcherOptions { per_endpoint_at_first: 8, ..DispatcherOptions::default() };
        dispatcher(self.store.clone(), SHORT, options)
    }

    /// Runs one step of a dispatcher.
    async fn round(&self) -> DeliveryStep {
        let mut dispatcher = self.dispatcher();
        let round = tokio::time::timeout(Duration::from_secs(20), dispatcher.step()).await;
        round.expect("no attempt takes longer than its timeout").expect("the database answers")
    }

    /// Creates an endpoint; returns its id and its secret.
    async fn endpoint(&self, url: &str) -> (EndpointId, String) {
        let reply = self.api.post("/api/v1/webhooks", &json!({"url": url})).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let json = reply.json();
        (id(&json), json["secret"].as_str().expect("a secret").to_owned())
    }

    /// Enqueues a delivery that is due now; returns the event's id.
    async fn enqueue(&self, endpoint: EndpointId) -> Uuid {
        enqueue(&self.api.books, endpoint, self.clock.now()).await
    }

    /// Reads from the API of an endpoint.
    async fn get(&self, endpoint: EndpointId, rest: &str) -> Value {
        let reply = self.api.get(&format!("/api/v1/webhooks/{endpoint}{rest}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    /// Posts to the API of an endpoint.
    async fn post(&self, endpoint: EndpointId, rest: &str, body: &Value) -> Value {
        let reply = self.api.post(&format!("/api/v1/webhooks/{endpoint}{rest}"), body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    /// The deliveries of an endpoint, the newest first.
    async fn deliveries(&self, endpoint: EndpointId) -> Vec<Value> {
        self.get(endpoint, "/deliveries").await["deliveries"].as_array().expect("deliveries").clone()
    }

    /// The one delivery of an endpoint.
    async fn delivery(&self, endpoint: EndpointId) -> Value {
        let mut deliveries = self.deliveries(endpoint).await;
        assert_eq!(deliveries.len(), 1);
        deliveries.remove(0)
    }

    /// The seconds until the next attempt of a delivery.
    fn waits(&self, delivery: &Value) -> i64 {
        let at: Timestamp = delivery["nextAttemptAt"].as_str().expect("a time").parse().expect("a time");
        at.duration_since(self.clock.now()).as_secs()
    }
}

/// A policy that allows this machine.
fn allowed() -> DeliveryPolicy {
    DeliveryPolicy { allow_private: true, ..DeliveryPolicy::default() }
}

fn dispatcher(store: Arc<dyn WebhookStore>, timeout: Duration, options: DispatcherOptions) -> Dispatcher {
    let sender = Sender::new(SenderOptions { timeout, policy: allowed() }).expect("a client");
    Dispatcher::new(store, Arc::new(sender), options)
}

async fn enqueue(books: &Books, endpoint: EndpointId, due: Timestamp) -> Uuid {
    let event_id = Uuid::now_v7();
    books.enqueue(&Enqueued { endpoint, event_id, event_at: due, due }).await;
    event_id
}

fn id(webhook: &Value) -> EndpointId {
    EndpointId::parse("id", webhook["id"].as_str().expect("an id")).expect("a UUID")
}

/// The ids of the events that a receiver got, in order.
fn received(receiver: &Receiver) -> Vec<String> {
    receiver.messages().iter().map(|message| message.header("webhook-id").to_owned()).collect()
}
