//! Endpoints: read and changed. `webhooks/records.rs` decides what a change means, under a row lock.

use super::endpoint_id;
use crate::{
    engine::Timestamp,
    store::{
        decode::{Columns, webhooks as decode},
        mysql::{
            Clock, StoreError,
            connect::Pool,
            round_trip::{TrackedConnection, affected, clock_of, read, rows},
            sql::{Script, Sql},
            statements::{CLOCK, instant},
        },
        webhooks::{CreatedEndpoint, Deletion, EndpointPage},
    },
    webhooks::{
        Configured, DELETED, Endpoint, EndpointChange, EndpointId, NewEndpoint, RequestDigest, WebhookRefusal,
    },
};

/// The columns that `decode::endpoint` reads, up to the condition.
pub(super) const ENDPOINTS: &str =
    "SELECT id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason,
    disabled_at, created_at, updated_at, earlier_secrets, headers, created_by, rotated_by
    FROM webhook_endpoints FORCE INDEX (PRIMARY) WHERE ";
/// The row that every creation locks before it counts, so that two cannot both find room for one more.
const CREATION_LOCK: &str =
    "INSERT INTO leases (name, owner, fencing, expires_at) VALUES ('webhooks', NULL, 0, 0)
    ON DUPLICATE KEY UPDATE name = name";

pub(super) async fn create(
    writers: &Pool,
    new: &NewEndpoint,
    max: u32,
    clock: &Clock,
) -> Result<Result<CreatedEndpoint, WebhookRefusal>, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    script.add(Sql::new(CREATION_LOCK));
    let stored = script.add(endpoint_id(Sql::new(ENDPOINTS).push("id = "), new.id).push(" FOR UPDATE"));
    let count = Sql::new("SELECT COUNT(*) FROM webhook_endpoints FORCE INDEX (PRIMARY) WHERE id > ''");
    let count = count.push(" AND (disabled_reason IS NULL OR disabled_reason <> ").text(DELETED);
    let count = script.add(count.push(")"));
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let now = clock_of(&results, now, clock)?;
    let stored = rows(&results, stored).first().map(decode::endpoint).transpose()?;
    let count = rows(&results, count).first().map(|row| row.integer(0)).transpose()?.unwrap_or(0);
    let (outcome, write) = match stored {
        Some(stored) => {
            let replayed = new.replayed(stored, now);
            (replayed.map(|endpoint| CreatedEndpoint { endpoint, is_replayed: true }), None)
        }
        None if count >= i64::from(max) => (Err(WebhookRefusal::TooManyEndpoints { max }), None),
        None => {
            let endpoint = new.made(now);
            let write = insert(&endpoint);
            (Ok(CreatedEndpoint { endpoint, is_replayed: false }), Some(write))
        }
    };
    finish(&mut connection, write).await?;
    Ok(outcome)
}

pub(super) async fn page(readers: &Pool, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
    let mut script = Script::default();
    let after = page.after.map(|id| *id.uuid().as_bytes()).unwrap_or_default();
    // The first page starts after the UUID of all zeros, which no endpoint has.
    let sql = Sql::new(ENDPOINTS).push("id > ").bytes(&after);
    let sql = sql.push(" AND (disabled_reason IS NULL OR disabled_reason <> ").text(DELETED).push(")");
    let place = script.add(sql.push(" ORDER BY id LIMIT ").integer(i64::from(page.limit)));
    rows(&read(readers, script).await?, place).iter().map(decode::endpoint).collect()
}

pub(super) async fn one(readers: &Pool, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    let mut script = Script::default();
    let place = script.add(endpoint_id(Sql::new(ENDPOINTS).push("id = "), id));
    let found = rows(&read(readers, script).await?, place).first().map(decode::endpoint).transpose()?;
    Ok(found.filter(|endpoint| !endpoint.is_being_deleted()))
}

pub(super) async fn change(
    writers: &Pool,
    id: EndpointId,
    change: &EndpointChange,
    clock: &Clock,
) -> Result<Result<Endpoint, WebhookRefusal>, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let (stored, now) = locked(&mut connection, id, clock).await?;
    let before = stored.clone();
    let changed = stored.ok_or(WebhookRefusal::NoEndpoint).and_then(|stored| stored.changed(change, now));
    let is_new = |changed: &&Endpoint| before.as_ref() != Some(*changed);
    let write = changed.as_ref().ok().filter(is_new).map(update);
    let forget = changed.is_ok() && change.forgets_failures();
    let forget = forget.then(|| endpoint_id(Sql::new("DELETE FROM webhook_health WHERE endpoint_id = "), id));
    finish(&mut connection, write.into_iter().chain(forget)).await?;
    Ok(changed)
}

pub(super) async fn configure(
    writers: &Pool,
    wanted: Option<&Configured>,
    clock: &Clock,
) -> Result<(), StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let (stored, now) = locked(&mut connection, EndpointId::ENVIRONMENT, clock).await?;
    let known = stored.is_some();
    let write = Endpoint::configured(stored, wanted, now).map(|endpoint| {
        // Two processes may start at the same time, and both find no endpoint.
        if known { update(&endpoint) } else { insert(&endpoint).push(" ON DUPLICATE KEY UPDATE id = id") }
    });
    finish(&mut connection, write).await
}

pub(super) async fn delete(
    writers: &Pool,
    id: EndpointId,
    limit: u32,
    clock: &Clock,
) -> Result<Deletion, StoreError> {
    // The row is locked from here on, so consumers, who read it with a lock, enqueue nothing more for it.
    let sql = Sql::new("UPDATE webhook_endpoints SET disabled_reason = ").text(DELETED);
    let sql = instant(sql.push(", disabled_at = "), clock);
    delete_some(writers, endpoint_id(sql.push(" WHERE id = "), id), id, limit)
        .await
        .map(|(deletion, _)| deletion)
}

/// Goes on with a deletion that was begun, and returns how many deliveries this step deleted.
pub(super) async fn continue_deletion(
    (writers, readers): (&Pool, &Pool),
    limit: u32,
) -> Result<u64, StoreError> {
    let mut script = Script::default();
    let sql = Sql::new(
        "SELECT id FROM webhook_endpoints FORCE INDEX (PRIMARY) WHERE id > '' AND disabled_reason = ",
    );
    let found = script.add(sql.text(DELETED).push(" LIMIT 1"));
    let results = read(readers, script).await?;
    let Some(row) = rows(&results, found).first() else { return Ok(0) };
    let id = decode::id(row)?;
    // The configuration may name it again meanwhile.
    let sql =
        Sql::new("UPDATE webhook_endpoints SET disabled_reason = disabled_reason WHERE disabled_reason = ");
    let lock = endpoint_id(sql.text(DELETED).push(" AND id = "), id);
    delete_some(writers, lock, id, limit).await.map(|(_, deliveries)| deliveries)
}

/// Deletes at most `limit` deliveries of an endpoint that `lock` matches, and the endpoint with the last of them.
async fn delete_some(
    writers: &Pool,
    lock: Sql,
    id: EndpointId,
    limit: u32,
) -> Result<(Deletion, u64), StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let locked = script.add(lock);
    let sql = Sql::new(
        "SELECT id FROM webhook_deliveries FORCE INDEX (webhook_deliveries_event) WHERE endpoint_id = ",
    );
    let found = script.add(endpoint_id(sql, id).push(" LIMIT ").integer(i64::from(limit)));
    let results = connection.run(script).await?;
    if affected(&results, locked) == 0 {
        finish(&mut connection, None).await?;
        return Ok((Deletion::Unknown, 0));
    }
    let deliveries = rows(&results, found).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    let (count, all) = (deliveries.len() as u64, deliveries.len() < limit as usize);

    let mut script = Script::default();
    let head = || Sql::new("DELETE d FROM webhook_deliveries d FORCE INDEX (PRIMARY) WHERE d.id IN ");
    script.add_lists(deliveries, Sql::integer, head, "");
    if all {
        script.add(endpoint_id(Sql::new("DELETE FROM webhook_health WHERE endpoint_id = "), id));
        script.add(endpoint_id(Sql::new("DELETE FROM webhook_endpoints WHERE id = "), id));
    }
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok((if all { Deletion::Done } else { Deletion::More }, count))
}

/// Begins a transaction, reads and locks an endpoint in it, and reads the clock after the lock.
async fn locked(
    connection: &mut TrackedConnection,
    id: EndpointId,
    clock: &Clock,
) -> Result<(Option<Endpoint>, Timestamp), StoreError> {
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let stored = script.add(endpoint_id(Sql::new(ENDPOINTS).push("id = "), id).push(" FOR UPDATE"));
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let stored = rows(&results, stored).first().map(decode::endpoint).transpose()?;
    Ok((stored, clock_of(&results, now, clock)?))
}

/// Ends a transaction, after its last writes.
async fn finish(
    connection: &mut TrackedConnection,
    writes: impl IntoIterator<Item = Sql>,
) -> Result<(), StoreError> {
    let mut script = Script::default();
    for write in writes {
        script.add(write);
    }
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(())
}

fn insert(endpoint: &Endpoint) -> Sql {
    let sql = Sql::new(
        "INSERT INTO webhook_endpoints (id, url, event_types, secret, previous_secret, previous_until, origin,
        disabled_reason, disabled_at, created_at, updated_at, earlier_secrets, headers, created_by, rotated_by)
        VALUES (",
    );
    let sql = endpoint_id(sql, endpoint.id).push(", ").text(endpoint.url.as_str());
    let sql = sql.push(", ").text(endpoint.filter.as_text());
    let sql = sql.push(", ").text(endpoint.secret.reveal());
    let sql = sql.push(", ").optional_text(endpoint.previous.first().map(|last| last.secret.reveal()));
    let sql = optional_time(sql.push(", "), endpoint.previous.first().map(|last| last.until));
    let sql = sql.push(", ").text(endpoint.origin.as_str());
    let sql = sql.push(", ").optional_text(endpoint.disabled.as_ref().map(|disabled| &*disabled.reason));
    let sql = optional_time(sql.push(", "), endpoint.disabled.as_ref().map(|disabled| disabled.at));
    let sql = sql.push(", ").integer(endpoint.created_at.as_microsecond());
    let sql = sql.push(", ").integer(endpoint.updated_at.as_microsecond()).push(", ");
    let sql = sql.optional_text(decode::earlier_secrets(endpoint).as_deref()).push(", ");
    let sql = sql.optional_text(endpoint.headers.as_stored().as_deref()).push(", ");
    let sql = optional_request(sql, endpoint.created_by.as_ref()).push(", ");
    optional_request(sql, endpoint.rotated_by.as_ref()).push(")")
}

fn update(endpoint: &Endpoint) -> Sql {
    let sql = Sql::new("UPDATE webhook_endpoints SET url = ").text(endpoint.url.as_str());
    let sql = sql.push(", event_types = ").text(endpoint.filter.as_text());
    let sql = sql.push(", secret = ").text(endpoint.secret.reveal());
    let previous = endpoint.previous.first();
    let sql = sql.push(", previous_secret = ").optional_text(previous.map(|last| last.secret.reveal()));
    let sql = optional_time(sql.push(", previous_until = "), previous.map(|last| last.until));
    let disabled = endpoint.disabled.as_ref();
    let sql = sql.push(", disabled_reason = ").optional_text(disabled.map(|disabled| &*disabled.reason));
    let sql = optional_time(sql.push(", disabled_at = "), disabled.map(|disabled| disabled.at));
    let sql = sql.push(", updated_at = ").integer(endpoint.updated_at.as_microsecond());
    let sql = sql.push(", earlier_secrets = ").optional_text(decode::earlier_secrets(endpoint).as_deref());
    let sql = sql.push(", headers = ").optional_text(endpoint.headers.as_stored().as_deref());
    let sql = optional_request(sql.push(", rotated_by = "), endpoint.rotated_by.as_ref());
    endpoint_id(sql.push(" WHERE id = "), endpoint.id)
}

fn optional_time(sql: Sql, time: Option<Timestamp>) -> Sql {
    match time {
        Some(time) => sql.integer(time.as_microsecond()),
        None => sql.push("NULL"),
    }
}

fn optional_request(sql: Sql, request: Option<&RequestDigest>) -> Sql {
    match request {
        Some(request) => sql.bytes(&decode::request_bytes(request)),
        None => sql.push("NULL"),
    }
}
