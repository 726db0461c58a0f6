//! The requests of the benchmarks: holds with random keys, over HTTP or straight to a store.

use std::{pin::Pin, sync::Arc};

use bespeak::{
    engine::{
        Command, Define, IdempotencyKey, Item, Items, Limits, Quantity, Reserve, ReserveDraft, ResourceId,
        Token,
    },
    store::{CommitMode, Store},
};
use bespeak_lab::load::{Answer, ClosedLoop, Connection, Summary, Target, TargetError, closed_loop};
use http::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{Error, bench::Bench};

/// Runs a closed loop of requests.
pub(crate) async fn load<F, Fut>(
    bench: &Bench,
    target: &Target,
    connections: usize,
    step: F,
) -> Result<Summary, Error>
where
    F: Fn(Connection, usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Connection, Result<Answer, TargetError>)> + Send,
{
    let load = ClosedLoop { connections, warm_up: bench.warm_up, duration: bench.duration };
    Ok(closed_loop(target, &load, step).await?)
}

type Sent = Pin<Box<dyn Future<Output = (Connection, Result<Answer, TargetError>)> + Send>>;

/// Requests that hold one unit each, with random keys.
pub(crate) fn hold_request(
    resource: Arc<str>,
) -> impl Fn(Connection, usize, u64) -> Sent + Send + Sync + 'static {
    move |connection, _, _| {
        let (resource, key) = (resource.clone(), random_key());
        Box::pin(async move { hold(connection, &resource, &key).await })
    }
}

/// Holds one unit.
pub(crate) async fn hold(
    connection: Connection,
    resource: &str,
    key: &str,
) -> (Connection, Result<Answer, TargetError>) {
    let body = format!(r#"{{"resourceId":"{resource}","quantity":1,"ttlSeconds":3600}}"#);
    connection.post("/api/v1/reserve", &[("idempotency-key", key)], body).await
}

/// Defines a resource over HTTP.
pub(crate) async fn define(target: &Target, resource: &str, total: u64) -> Result<(), Error> {
    let body = json!({"resourceId": resource, "totalStock": total}).to_string();
    let answer = target.connect().await?.send(Method::POST, "/api/v1/resources", &[], body.into()).await?;
    if answer.status == 200 { Ok(()) } else { Err(format!("{resource}: {}", answer.status).into()) }
}

/// Fails unless every response had the given status, because other responses would distort the figure.
pub(crate) fn only(summary: &Summary, status: &str) -> Result<(), Error> {
    if summary.counts.keys().all(|counted| counted == status) {
        Ok(())
    } else {
        Err(format!("expected only {status}, got {:?}", summary.counts).into())
    }
}

/// Defines resources in a store.
pub(crate) async fn define_directly(store: &dyn Store, ids: &[ResourceId]) -> Result<(), Error> {
    let define = |id: &ResourceId| Define { resource_id: id.clone(), total: 1_000_000_000, fulfilment: None };
    let defines: Vec<Command> = ids.iter().map(|id| Command::Define(define(id))).collect();
    store.execute(&defines, CommitMode::Commit).await?;
    Ok(())
}

/// The command that holds one unit with a random key.
pub(crate) fn random_hold(id: &ResourceId) -> Result<Reserve, Error> {
    let limits = Limits::default();
    let item = Item { resource_id: id.clone(), quantity: Quantity::new("quantity", 1)? };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits)?,
        ttl: limits.ttl("ttlSeconds", None)?,
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(&random_key())?,
    };
    Ok(draft.with_token(Token::from_uuid(Uuid::now_v7())))
}

/// A random idempotency key, as clients generate it. Such keys are spread over the whole index.
pub(crate) fn random_key() -> String {
    Uuid::from_u128(fastrand::u128(..)).to_string()
}
