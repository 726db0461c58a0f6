//! Endpoints: read and changed. `webhooks/records.rs` decides what a change means, under a row lock.

use super::endpoint_id;
use crate::{
    engine::Timestamp,
    store::{
        decode::{Columns, webhooks as decode},
        mysql::{
            Clock, StoreError,
            connect::Pool,
            round_trip::{TrackedConnection, clock_of, read, rows},
            sql::{Script, Sql},
            statements::{CLOCK, instant},
        },
        webhooks::{Deletion, EndpointPage},
    },
    webhooks::{Configured, DELETED, Endpoint, EndpointChange, EndpointId, NewEndpoint},
};

/// The columns that `decode::endpoint` reads, up to the condition.
pub(super) const ENDPOINTS: &str =
    "SELECT id, url, event_types, secret, previous_secret, previous_until, origin, disabled_reason,
    disabled_at, created_at, updated_at FROM webhook_endpoints FORCE INDEX (PRIMARY) WHERE ";

pub(super) async fn create(writers: &Pool, new: &NewEndpoint, clock: &Clock) -> Result<Endpoint, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let endpoint = new.made(clock_of(&results, now, clock)?);
    let mut script = Script::default();
    script.add(insert(&endpoint));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(endpoint)
}

pub(super) async fn page(readers: &Pool, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
    let mut script = Script::default();
    let after = page.after.map(|id| *id.uuid().as_bytes()).unwrap_or_default();
    // The first page starts after the UUID of all zeros, which no endpoint has.
    let sql = Sql::new(ENDPOINTS).push("id > ").bytes(&after);
    let place = script.add(sql.push(" ORDER BY id LIMIT ").integer(i64::from(page.limit)));
    rows(&read(readers, script).await?, place).iter().map(decode::endpoint).collect()
}

pub(super) async fn one(readers: &Pool, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    let mut script = Script::default();
    let place = script.add(endpoint_id(Sql::new(ENDPOINTS).push("id = "), id));
    rows(&read(readers, script).await?, place).first().map(decode::endpoint).transpose()
}

pub(super) async fn change(
    writers: &Pool,
    id: EndpointId,
    change: &EndpointChange,
    clock: &Clock,
) -> Result<Option<Endpoint>, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let (stored, now) = locked(&mut connection, id, clock).await?;
    let before = stored.clone();
    let changed = stored.map(|stored| stored.changed(change, now));
    let write = changed.as_ref().filter(|changed| before.as_ref() != Some(changed)).map(update);
    finish(&mut connection, write).await?;
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
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    // The row is locked from here on, so consumers, who read it with a lock, enqueue nothing more for it.
    let sql = Sql::new("UPDATE webhook_endpoints SET disabled_reason = ").text(DELETED);
    let sql = instant(sql.push(", disabled_at = "), clock);
    let disabled = script.add(endpoint_id(sql.push(" WHERE id = "), id));
    let sql = Sql::new(
        "SELECT id FROM webhook_deliveries FORCE INDEX (webhook_deliveries_event) WHERE endpoint_id = ",
    );
    let found = script.add(endpoint_id(sql, id).push(" LIMIT ").integer(i64::from(limit)));
    let results = connection.run(script).await?;
    let known = results.get(disabled).is_some_and(|result| result.affected > 0);
    let deliveries = rows(&results, found).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    let all = deliveries.len() < limit as usize;

    let mut script = Script::default();
    let head = || Sql::new("DELETE d FROM webhook_deliveries d FORCE INDEX (PRIMARY) WHERE d.id IN ");
    script.add_lists(deliveries, Sql::integer, head, "");
    if all {
        script.add(endpoint_id(Sql::new("DELETE FROM webhook_endpoints WHERE id = "), id));
    }
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(match (known, all) {
        (false, _) => Deletion::Unknown,
        (true, false) => Deletion::More,
        (true, true) => Deletion::Done,
    })
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

/// Ends a transaction, after a last write if there is one.
async fn finish(connection: &mut TrackedConnection, write: Option<Sql>) -> Result<(), StoreError> {
    let mut script = Script::default();
    if let Some(write) = write {
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
        disabled_reason, disabled_at, created_at, updated_at) VALUES (",
    );
    let sql = endpoint_id(sql, endpoint.id).push(", ").text(endpoint.url.as_str());
    let sql = sql.push(", ").text(endpoint.filter.as_text());
    let sql = sql.push(", ").text(endpoint.secret.reveal());
    let sql = sql.push(", ").optional_text(endpoint.previous.as_ref().map(|last| last.secret.reveal()));
    let sql = optional_time(sql.push(", "), endpoint.previous.as_ref().map(|last| last.until));
    let sql = sql.push(", ").text(endpoint.origin.as_str());
    let sql = sql.push(", ").optional_text(endpoint.disabled.as_ref().map(|disabled| &*disabled.reason));
    let sql = optional_time(sql.push(", "), endpoint.disabled.as_ref().map(|disabled| disabled.at));
    let sql = sql.push(", ").integer(endpoint.created_at.as_microsecond());
    sql.push(", ").integer(endpoint.updated_at.as_microsecond()).push(")")
}

fn update(endpoint: &Endpoint) -> Sql {
    let sql = Sql::new("UPDATE webhook_endpoints SET url = ").text(endpoint.url.as_str());
    let sql = sql.push(", event_types = ").text(endpoint.filter.as_text());
    let sql = sql.push(", secret = ").text(endpoint.secret.reveal());
    let previous = endpoint.previous.as_ref();
    let sql = sql.push(", previous_secret = ").optional_text(previous.map(|last| last.secret.reveal()));
    let sql = optional_time(sql.push(", previous_until = "), previous.map(|last| last.until));
    let disabled = endpoint.disabled.as_ref();
    let sql = sql.push(", disabled_reason = ").optional_text(disabled.map(|disabled| &*disabled.reason));
    let sql = optional_time(sql.push(", disabled_at = "), disabled.map(|disabled| disabled.at));
    let sql = sql.push(", updated_at = ").integer(endpoint.updated_at.as_microsecond());
    endpoint_id(sql.push(" WHERE id = "), endpoint.id)
}

fn optional_time(sql: Sql, time: Option<Timestamp>) -> Sql {
    match time {
        Some(time) => sql.integer(time.as_microsecond()),
        None => sql.push("NULL"),
    }
}
