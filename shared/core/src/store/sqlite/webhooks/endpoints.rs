//! Endpoints: read and changed. `webhooks/records.rs` decides what a change means, inside a transaction that holds
//! the write lock.

use sqlx::{
    Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::bytes;
use crate::{
    store::{
        batch::Session,
        decode::webhooks as decode,
        sqlite::{SqliteStore, StoreError, connect::Pool, error::failed, session::SqliteSession},
        webhooks::{Deletion, EndpointPage},
    },
    webhooks::{Configured, DELETED, Endpoint, EndpointChange, EndpointId, NewEndpoint},
};

/// The columns that `decode::endpoint` reads, up to the `WHERE`.
macro_rules! endpoints {
    () => {
        "SELECT id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason, disabled_at,
        created_at, updated_at FROM webhook_endpoints "
    };
}
pub(super) use endpoints;

const ONE: &str = concat!(endpoints!(), "WHERE id = ?1");
const PAGE: &str = concat!(endpoints!(), "WHERE id > ?1 ORDER BY id LIMIT ?2");
const PUT: &str = "INSERT OR REPLACE INTO webhook_endpoints
    (id, url, event_types, secret, previous_secret, previous_until, origin,
    disabled_reason, disabled_at, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const DELETING: &str = "UPDATE webhook_endpoints SET disabled_reason = ?2, disabled_at = ?3 WHERE id = ?1";
const DELETE_DELIVERIES: &str = "DELETE FROM webhook_deliveries WHERE id IN
    (SELECT id FROM webhook_deliveries WHERE endpoint_id = ?1 LIMIT ?2)";
const DELETE: &str = "DELETE FROM webhook_endpoints WHERE id = ?1";

pub(super) async fn create(store: &SqliteStore, new: &NewEndpoint) -> Result<Endpoint, StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let endpoint = new.made(store.now());
    put(&endpoint).execute(session.connection()).await.map_err(failed)?;
    session.commit().await?;
    Ok(endpoint)
}

pub(super) async fn page(readers: &Pool, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
    let after = page.after.map(bytes).unwrap_or_default();
    let rows = sqlx::query(PAGE)
        .bind(after)
        .bind(page.limit)
        .fetch_all(&mut *readers.acquire().await?)
        .await
        .map_err(failed)?;
    rows.iter().map(decode::endpoint).collect()
}

pub(super) async fn one(readers: &Pool, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(bytes(id))
        .fetch_optional(&mut *readers.acquire().await?)
        .await
        .map_err(failed)?;
    row.as_ref().map(decode::endpoint).transpose()
}

pub(super) async fn change(
    store: &SqliteStore,
    id: EndpointId,
    change: &EndpointChange,
) -> Result<Option<Endpoint>, StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let stored = stored(&mut session, id).await?;
    let changed = stored.clone().map(|stored| stored.changed(change, store.now()));
    if let Some(changed) = changed.as_ref().filter(|changed| stored.as_ref() != Some(changed)) {
        put(changed).execute(session.connection()).await.map_err(failed)?;
    }
    session.commit().await?;
    Ok(changed)
}

pub(super) async fn configure(store: &SqliteStore, wanted: Option<&Configured>) -> Result<(), StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let stored = stored(&mut session, EndpointId::ENVIRONMENT).await?;
    if let Some(endpoint) = Endpoint::configured(stored, wanted, store.now()) {
        put(&endpoint).execute(session.connection()).await.map_err(failed)?;
    }
    session.commit().await
}

pub(super) async fn delete(store: &SqliteStore, id: EndpointId, limit: u32) -> Result<Deletion, StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let now = store.now().as_microsecond();
    let disable = sqlx::query(DELETING).bind(bytes(id)).bind(DELETED).bind(now);
    if disable.execute(session.connection()).await.map_err(failed)?.rows_affected() == 0 {
        session.rollback().await?;
        return Ok(Deletion::Unknown);
    }
    let deliveries = sqlx::query(DELETE_DELIVERIES).bind(bytes(id)).bind(limit);
    let deleted = deliveries.execute(session.connection()).await.map_err(failed)?.rows_affected();
    let all = deleted < u64::from(limit);
    if all {
        sqlx::query(DELETE).bind(bytes(id)).execute(session.connection()).await.map_err(failed)?;
    }
    session.commit().await?;
    Ok(if all { Deletion::Done } else { Deletion::More })
}

async fn stored(session: &mut SqliteSession, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    let row: Option<SqliteRow> =
        sqlx::query(ONE).bind(bytes(id)).fetch_optional(session.connection()).await.map_err(failed)?;
    row.as_ref().map(decode::endpoint).transpose()
}

/// Inserts or overwrites an endpoint.
fn put(endpoint: &Endpoint) -> Query<'_, Sqlite, SqliteArguments> {
    let (previous, disabled) = (endpoint.previous.as_ref(), endpoint.disabled.as_ref());
    sqlx::query(PUT)
        .bind(bytes(endpoint.id))
        .bind(endpoint.url.as_str())
        .bind(endpoint.filter.as_text())
        .bind(endpoint.secret.reveal())
        .bind(previous.map(|last| last.secret.reveal()))
        .bind(previous.map(|last| last.until.as_microsecond()))
        .bind(endpoint.origin.as_str())
        .bind(disabled.map(|disabled| &*disabled.reason))
        .bind(disabled.map(|disabled| disabled.at.as_microsecond()))
        .bind(endpoint.created_at.as_microsecond())
        .bind(endpoint.updated_at.as_microsecond())
}
