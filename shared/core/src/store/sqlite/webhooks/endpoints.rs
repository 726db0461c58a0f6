//! Endpoints: read and changed. `webhooks/records.rs` decides what a change means, inside a transaction that holds
//! the write lock.

use sqlx::{
    Row, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::bytes;
use crate::{
    store::{
        batch::Session,
        decode::webhooks as decode,
        sqlite::{SqliteStore, StoreError, connect::Pool, error::failed, session::SqliteSession},
        webhooks::{CreatedEndpoint, Deletion, EndpointPage},
    },
    webhooks::{Configured, DELETED, Endpoint, EndpointChange, EndpointId, NewEndpoint, WebhookRefusal},
};

/// The columns that `decode::endpoint` reads, up to the `WHERE`.
macro_rules! endpoints {
    () => {
        "SELECT id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason, disabled_at,
        created_at, updated_at, earlier_secrets, headers, created_by, rotated_by FROM webhook_endpoints "
    };
}
pub(super) use endpoints;

const ONE: &str = concat!(endpoints!(), "WHERE id = ?1");
const PAGE: &str = concat!(endpoints!(), "WHERE id > ?1 AND disabled_reason IS NOT ?3 ORDER BY id LIMIT ?2");
const PUT: &str = "INSERT OR REPLACE INTO webhook_endpoints
    (id, url, event_types, secret, previous_secret, previous_until, origin,
    disabled_reason, disabled_at, created_at, updated_at, earlier_secrets, headers, created_by, rotated_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
const DELETING: &str = "UPDATE webhook_endpoints SET disabled_reason = ?2, disabled_at = ?3 WHERE id = ?1";
const DELETE_DELIVERIES: &str = "DELETE FROM webhook_deliveries WHERE id IN
    (SELECT id FROM webhook_deliveries WHERE endpoint_id = ?1 LIMIT ?2)";
const DELETE: &str = "DELETE FROM webhook_endpoints WHERE id = ?1";
const DELETE_HEALTH: &str = "DELETE FROM webhook_health WHERE endpoint_id = ?1";
const BEING_DELETED: &str = "SELECT id FROM webhook_endpoints WHERE disabled_reason = ?1 LIMIT 1";

pub(super) async fn create(
    store: &SqliteStore,
    new: &NewEndpoint,
    max: u32,
) -> Result<Result<CreatedEndpoint, WebhookRefusal>, StoreError> {
    const COUNT: &str = "SELECT count(*) FROM webhook_endpoints WHERE disabled_reason IS NOT ?1";
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let now = store.now();
    if let Some(stored) = stored(&mut session, new.id).await? {
        session.rollback().await?;
        let replayed = new.replayed(stored, now);
        return Ok(replayed.map(|endpoint| CreatedEndpoint { endpoint, is_replayed: true }));
    }
    let count = sqlx::query(COUNT).bind(DELETED).fetch_one(session.connection()).await.map_err(failed)?;
    if count.get::<i64, _>(0) >= i64::from(max) {
        session.rollback().await?;
        return Ok(Err(WebhookRefusal::TooManyEndpoints { max }));
    }
    let endpoint = new.made(now);
    put(&endpoint).execute(session.connection()).await.map_err(failed)?;
    session.commit().await?;
    Ok(Ok(CreatedEndpoint { endpoint, is_replayed: false }))
}

pub(super) async fn page(readers: &Pool, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
    let after = page.after.map(bytes).unwrap_or_default();
    let rows = sqlx::query(PAGE)
        .bind(after)
        .bind(page.limit)
        .bind(DELETED)
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
    let found = row.as_ref().map(decode::endpoint).transpose()?;
    Ok(found.filter(|endpoint| !endpoint.is_being_deleted()))
}

pub(super) async fn change(
    store: &SqliteStore,
    id: EndpointId,
    change: &EndpointChange,
) -> Result<Result<Endpoint, WebhookRefusal>, StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let stored = stored(&mut session, id).await?;
    let before = stored.clone();
    let changed =
        stored.ok_or(WebhookRefusal::NoEndpoint).and_then(|stored| stored.changed(change, store.now()));
    if let Some(changed) = changed.as_ref().ok().filter(|changed| before.as_ref() != Some(*changed)) {
        put(changed).execute(session.connection()).await.map_err(failed)?;
    }
    if changed.is_ok() && change.forgets_failures() {
        let forget = sqlx::query(DELETE_HEALTH).bind(bytes(id));
        forget.execute(session.connection()).await.map_err(failed)?;
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
    let deleted = delete_some(&mut session, id, limit).await?;
    session.commit().await?;
    Ok(if deleted < u64::from(limit) { Deletion::Done } else { Deletion::More })
}

/// Goes on with a deletion that was begun, and returns how many deliveries this step deleted.
pub(super) async fn continue_deletion(store: &SqliteStore, limit: u32) -> Result<u64, StoreError> {
    // Without a deletion, no lock is taken.
    let begun = sqlx::query(BEING_DELETED)
        .bind(DELETED)
        .fetch_optional(&mut *store.readers.background.acquire().await?)
        .await
        .map_err(failed)?;
    if begun.is_none() {
        return Ok(0);
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let found = sqlx::query(BEING_DELETED).bind(DELETED).fetch_optional(session.connection()).await;
    let Some(row) = found.map_err(failed)? else {
        session.rollback().await?;
        return Ok(0);
    };
    let deleted = delete_some(&mut session, decode::id(&row)?, limit).await?;
    session.commit().await?;
    Ok(deleted)
}

/// Deletes at most `limit` deliveries of an endpoint, and the endpoint with the last of them.
async fn delete_some(session: &mut SqliteSession, id: EndpointId, limit: u32) -> Result<u64, StoreError> {
    let deliveries = sqlx::query(DELETE_DELIVERIES).bind(bytes(id)).bind(limit);
    let deleted = deliveries.execute(session.connection()).await.map_err(failed)?.rows_affected();
    if deleted < u64::from(limit) {
        for statement in [DELETE_HEALTH, DELETE] {
            sqlx::query(statement).bind(bytes(id)).execute(session.connection()).await.map_err(failed)?;
        }
    }
    Ok(deleted)
}

async fn stored(session: &mut SqliteSession, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    let row: Option<SqliteRow> =
        sqlx::query(ONE).bind(bytes(id)).fetch_optional(session.connection()).await.map_err(failed)?;
    row.as_ref().map(decode::endpoint).transpose()
}

/// Inserts or overwrites an endpoint.
fn put(endpoint: &Endpoint) -> Query<'_, Sqlite, SqliteArguments> {
    let (previous, disabled) = (endpoint.previous.first(), endpoint.disabled.as_ref());
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
        .bind(decode::earlier_secrets(endpoint))
        .bind(endpoint.headers.as_stored())
        .bind(endpoint.created_by.as_ref().map(decode::request_bytes))
        .bind(endpoint.rotated_by.as_ref().map(decode::request_bytes))
}
