//! Dispatchers: several at once, a killed one, a stopping one, and one with a slow receiver.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bespeak::{
    background::{RunReport, RunUntil},
    delivery::DispatcherOptions,
    store::{Guard, WebhookStore},
};
use bespeak_tests::{Api, Behaviour, Books, Receiver, each_store, until};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;

each_store!(
    deliveries_of_a_killed_dispatcher_are_retried,
    two_dispatchers_deliver_each_once,
    a_slow_receiver_does_not_hold_up_others,
    a_stopping_dispatcher_finishes_or_gives_back,
    a_dispatcher_delivers_on_wakeup_and_by_polling,
);

/// A dispatcher that runs until it is stopped.
pub(super) struct Running {
    pub(super) wake: Arc<Notify>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<RunReport<DeliveryStep>>,
}

impl Running {
    pub(super) fn start(store: Arc<dyn WebhookStore>, timeout: Duration, options: DispatcherOptions) -> Self {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let task = tokio::spawn(dispatcher(store, timeout, options).run(
            RunUntil::Stopped,
            wake.clone(),
            stop.clone(),
        ));
        Self { wake, stop, task }
    }

    pub(super) async fn stop(self) -> RunReport<DeliveryStep> {
        self.stop.cancel();
        self.task.await.expect("no panic")
    }
}

async fn deliveries_of_a_killed_dispatcher_are_retried(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::Nothing).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    let event = hooks.enqueue(endpoint).await;
    let mut killed = dispatcher(hooks.store.clone(), Duration::from_secs(60), DispatcherOptions::default());
    let task = tokio::spawn(async move { killed.step().await.map(drop) });
    until("the receiver has it", || async { !receiver.messages().is_empty() }).await;
    task.abort();
    assert!(task.await.expect_err("killed").is_cancelled());
    receiver.says(Behaviour::status(200));
    assert_eq!(hooks.round().await, DeliveryStep::default(), "the claim of the killed dispatcher lasts");
    hooks.clock.advance(DispatcherOptions::default().lease);
    assert_eq!(hooks.round().await, DeliveryStep { claimed: 1, delivered: 1, ..DeliveryStep::default() });
    assert_eq!(
        received(&receiver),
        [event.to_string(), event.to_string()],
        "the event is sent twice under one id"
    );
    assert_eq!(hooks.delivery(endpoint).await["attempts"], 1, "only the attempt with a known result counts");
}

async fn two_dispatchers_deliver_each_once(books: Books) {
    let api = Api::with(books, &[ALLOWED], None).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let mut events = HashSet::new();
    for _ in 0..3 {
        let made = api.post("/api/v1/webhooks", &json!({"url": receiver.url()})).await.json();
        for _ in 0..20 {
            events.insert(
                enqueue(&api.books, id(&made), bespeak::engine::Timestamp::UNIX_EPOCH).await.to_string(),
            );
        }
    }
    let mut running = Vec::new();
    for _ in 0..2 {
        let store = api.books.open(None, Guard::RowLock).await;
        running.push(Running::start(store, Duration::from_secs(10), DispatcherOptions::default()));
    }
    let pending = "SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'PENDING'";
    until("all are delivered", || async { api.books.count(pending).await == 0 }).await;
    for dispatcher in running {
        dispatcher.stop().await;
    }
    let received = received(&receiver);
    assert_eq!(received.len(), 60, "each once");
    assert_eq!(received.into_iter().collect::<HashSet<_>>(), events);
    assert_eq!(api.books.count("SELECT COUNT(*) FROM webhook_deliveries WHERE attempts = 1").await, 60);
}

async fn a_slow_receiver_does_not_hold_up_others(books: Books) {
    let hooks = Hooks::start(books).await;
    let (slow, fast) =
        (Receiver::start(Behaviour::Nothing).await, Receiver::start(Behaviour::status(200)).await);
    let (held_up, _) = hooks.endpoint(&slow.url()).await;
    let (other, _) = hooks.endpoint(&fast.url()).await;
    // Given an old backlog that is larger than the capacity of the dispatcher
    for _ in 0..20 {
        hooks.enqueue(held_up).await;
    }
    hooks.clock.advance(Duration::from_secs(1));
    let options = DispatcherOptions {
        in_all: 8,
        per_endpoint: 6,
        per_endpoint_at_first: 6,
        grace: Duration::ZERO,
        ..DispatcherOptions::default()
    };
    let running = Running::start(hooks.store.clone(), Duration::from_secs(60), options);
    until("the slow receiver has its share of attempts", || async { slow.messages().len() == 6 }).await;
    for _ in 0..5 {
        hooks.enqueue(other).await;
        running.wake.notify_one();
    }
    until("the other receiver has all its deliveries", || async { fast.messages().len() == 5 }).await;
    assert_eq!(slow.connections(), 6, "the slow receiver must get no more than its share");
    running.stop().await;
}

async fn a_stopping_dispatcher_finishes_or_gives_back(books: Books) {
    let hooks = Hooks::start(books).await;
    let (never, slow) =
        (Receiver::start(Behaviour::Nothing).await, Receiver::start(Behaviour::Nothing).await);
    let (hanging, _) = hooks.endpoint(&never.url()).await;
    let (ending, _) = hooks.endpoint(&slow.url()).await;
    hooks.enqueue(hanging).await;
    let options = DispatcherOptions { grace: Duration::from_millis(200), ..DispatcherOptions::default() };
    let running = Running::start(hooks.store.clone(), Duration::from_secs(60), options.clone());
    until("the attempt is in flight", || async { !never.messages().is_empty() }).await;
    running.stop().await;
    let delivery = hooks.delivery(hanging).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("PENDING"), &json!(0)));
    never.says(Behaviour::status(200));
    assert_eq!(hooks.round().await.delivered, 1, "a delivery that was given back is due at once");

    hooks.enqueue(ending).await;
    let patient = DispatcherOptions { grace: Duration::from_secs(10), ..options };
    let running = Running::start(hooks.store.clone(), SHORT, patient);
    until("the attempt is in flight", || async { !slow.messages().is_empty() }).await;
    running.stop().await;
    assert_eq!(hooks.delivery(ending).await["attempts"], 1, "the attempt ended and was recorded");
}

async fn a_dispatcher_delivers_on_wakeup_and_by_polling(books: Books) {
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let url = receiver.url();
    let settings = [ALLOWED, ("BESPEAK_WEBHOOK_URL", &*url), ("BESPEAK_WEBHOOK_SECRET", secret)];
    let api = Api::with(books, &settings, None).await;
    api.app.start_webhooks().await.expect("started");
    enqueue(&api.books, EndpointId::ENVIRONMENT, bespeak::engine::Timestamp::UNIX_EPOCH).await;
    api.app.webhooks_due().notify_one();
    until("the wake-up leads to a delivery", || async { receiver.messages().len() == 1 }).await;
    enqueue(&api.books, EndpointId::ENVIRONMENT, bespeak::engine::Timestamp::UNIX_EPOCH).await;
    until("polling leads to a delivery", || async { receiver.messages().len() == 2 }).await;
    assert!(receiver.messages().iter().all(|message| message.is_signed_with(secret)));
    api.app.stop().await;
    let delivered = "SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'DELIVERED'";
    assert_eq!(api.books.count(delivered).await, 2, "attempts in flight are recorded");
}
