//! Distributed locks on real nodes and in real processes: their own promises, and that the books need none of them.

mod database;
mod frozen;
mod nodes;
mod serving;

use std::sync::Arc;

use bespeak::{
    app::{Access, App, Rejected, open_store},
    config::{Config, Values},
    dispatch::{DispatchError, Strategy},
    engine::{Define, IdempotencyKey, Item, Items, Limits, Quantity, Refusal, ReserveDraft, ResourceId},
};

/// The configuration of a strategy, including those that only the lab can choose.
fn config(url: &str, strategy: Strategy, settings: &[(&str, &str)]) -> Config {
    let values = Values::collect(
        |asked| settings.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned()),
        |asked| (asked == "BESPEAK_DATABASE_URL").then(|| url.to_owned()),
    );
    Config::parse(&values).expect("valid settings").with_strategy(strategy)
}

/// An engine under a strategy, as in a process of its own.
async fn app(url: &str, strategy: Strategy, settings: &[(&str, &str)]) -> Arc<App> {
    let config = config(url, strategy, settings);
    let store = open_store(&config, Access::Serve).await.expect("opened");
    store.migrate().await.expect("migrated");
    Arc::new(App::start(store, &config))
}

fn id(name: &str) -> ResourceId {
    ResourceId::new("id", name).expect("valid")
}

async fn stock(app: &App, name: &str, total: u64) {
    let define = Define { resource_id: id(name), total, fulfilment: None };
    app.define(define).await.expect("defined");
}

/// Holds one unit for an hour; returns whether it was granted.
async fn hold(app: &App, key: &str, name: &str) -> Result<bool, DispatchError> {
    let limits = Limits::default();
    let item = Item { resource_id: id(name), quantity: Quantity::new("q", 1).expect("valid") };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits).expect("valid"),
        ttl: limits.ttl("ttl", Some(3_600)).expect("valid"),
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(key).expect("valid"),
    };
    match app.reserve(draft).await {
        Ok(_) => Ok(true),
        Err(Rejected::Refused(Refusal::OutOfStock { .. })) => Ok(false),
        Err(Rejected::Refused(other)) => panic!("{key}: {other:?}"),
        Err(Rejected::Failed(error)) => Err(error),
    }
}

/// Retries a hold under its key until it is granted or refused.
async fn insist(app: &App, key: &str, name: &str) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        match hold(app, key, name).await {
            Ok(granted) => return granted,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{key}: {error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
