//! What a batch changed, as statements: set-based, the hot rows last, each with the number of rows that it must find.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Guard, StoreError,
    session::{self, rows},
    sql::{LIST_MAX, Script, Sql},
    wire::Wire,
};
use crate::{
    engine::{
        Changes, Event, EventKey, Holder, Reservation, Resource, ResourceId, ResourceUpdate, Status,
        Timestamp, Transition,
    },
    store::{
        Contention, decode,
        rows::{payload, shard},
    },
    trace::{TraceContext, Traceparent},
};

/// A statement of the script, and how many rows it must touch.
type Expected = (usize, u64);

/// Writes changes: new records, transitions, events, and the resources last. One round trip; one more where an event
/// needs what the update found.
pub(super) async fn changes(wire: &mut Wire, guard: Guard, changes: Changes) -> Result<(), StoreError> {
    let mut script = Script::default();
    let mut expected = Vec::new();
    // Where edges are found only by the update, one command has the transaction to itself.
    let cause = changes.events.first().and_then(|event| event.trace);
    expected.extend(create_resources(&mut script, &changes.created_resources));
    expected.extend(create_reservations(&mut script, &changes.created_reservations));
    expected.extend(change_reservations(&mut script, &changes.transitions));
    // Under row locks the resources are locked already. Elsewhere the ids of a resource's events must not be drawn before
    // its row is locked, which its update does: ids of one key are in commit order.
    let (now, later): (Vec<Event>, Vec<Event>) = changes
        .events
        .into_iter()
        .partition(|event| guard == Guard::RowLock || matches!(event.key, EventKey::Reservation(_)));
    expected.extend(add_events(&mut script, now)?);
    let updates = &changes.updated_resources;
    for update in updates {
        expected.push((script.add(update_resource(guard, update)), 1));
    }
    let found = match guard {
        Guard::Conditional => {
            let ids = updates.iter().map(|update| &update.resource.id);
            script.add_lists(ids, session::id, || Sql::new(session::RESOURCES), "")
        }
        Guard::RowLock | Guard::Optimistic | Guard::Unguarded => Vec::new(),
    };

    let answers = wire.ask(script).await?;
    for (place, rows) in expected {
        let touched = answers.get(place).map_or(0, |answer| answer.affected);
        if touched != rows {
            return Err(StoreError::changed_meanwhile(touched, rows));
        }
    }
    let later = if guard == Guard::Conditional {
        let found = found.into_iter().flat_map(|place| rows(&answers, place));
        let found = found.map(decode::resource).collect::<Result<Vec<_>, _>>()?;
        edges(updates, later, found, cause)?
    } else {
        later
    };
    if later.is_empty() {
        return Ok(());
    }
    let mut script = Script::default();
    add_events(&mut script, later)?;
    wire.ask(script).await.map(drop)
}

/// The edges of resources that were changed by difference: what the update found is what counts, not what had been read.
fn edges(
    updates: &[ResourceUpdate],
    decided: Vec<Event>,
    found: Vec<Resource>,
    cause: Option<TraceContext>,
) -> Result<Vec<Event>, StoreError> {
    let found: BTreeMap<ResourceId, Resource> =
        found.into_iter().map(|resource| (resource.id.clone(), resource)).collect();
    let mut edges = Vec::new();
    for update in updates {
        let ResourceUpdate { resource: decided_on, from_version, from_available } = update;
        let Some(found) = found.get(&decided_on.id) else {
            return Err(StoreError::changed_meanwhile(0, 1));
        };
        if found.version == decided_on.version {
            let own = |event: &&Event| matches!(&event.key, EventKey::Resource(id) if *id == found.id);
            edges.extend(decided.iter().filter(own).cloned());
        } else if decided_on.version == from_version + 1 {
            let before = found.available + from_available - decided_on.available;
            edges.extend(Event::edge(before, found).map(|edge| Event { trace: cause, ..edge }));
        } else {
            // Several movements, between which edges may lie that nobody can tell now.
            return Err(StoreError::contended(Contention::Changed, "a resource moved between two movements"));
        }
    }
    Ok(edges)
}

fn create_resources(script: &mut Script, resources: &[Resource]) -> Vec<Expected> {
    let row = |sql: Sql, resource: &Resource| {
        sql.text(resource.id.as_str())
            .push(", ")
            .unsigned(resource.total)
            .push(", ")
            .unsigned(resource.available)
            .push(", ")
            .unsigned(resource.version)
            .push(", ")
            .text(resource.fulfilment.as_str())
            .push(", ")
            .integer(resource.created_at.as_microsecond())
            .push(", ")
            .integer(resource.updated_at.as_microsecond())
    };
    script.add_rows(
        resources,
        row,
        "INSERT INTO resources (id, total, available, version, fulfilment, created_at, updated_at) VALUES",
    )
}

fn create_reservations(script: &mut Script, reservations: &[Reservation]) -> Vec<Expected> {
    let items = reservations
        .iter()
        .flat_map(|reservation| (0..reservation.items.len()).map(move |n| (n, reservation)));
    script.add_rows(
        items,
        item,
        "INSERT INTO reservations (token, item_no, resource_id, quantity, status, version, created_at, expires_at,
        updated_at, idempotency_key, fingerprint, holder, metadata) VALUES",
    )
}

fn item(sql: Sql, (item_no, reservation): (usize, &Reservation)) -> Sql {
    let item = &reservation.items[item_no];
    let sql = sql
        .bytes(reservation.token.uuid().as_bytes())
        .push(", ")
        .unsigned(item_no as u64)
        .push(", ")
        .text(item.resource_id.as_str())
        .push(", ")
        .unsigned(item.quantity.units())
        .push(", ")
        .text(reservation.status.as_str())
        .push(", ")
        .unsigned(reservation.version)
        .push(", ")
        .integer(reservation.created_at.as_microsecond())
        .push(", ")
        .integer(reservation.expires_at.as_microsecond())
        .push(", ")
        .integer(reservation.updated_at.as_microsecond());
    if item_no > 0 {
        return sql.push(", NULL, NULL, NULL, NULL");
    }
    sql.push(", ")
        .text(reservation.key.as_str())
        .push(", ")
        .bytes(reservation.fingerprint.bytes())
        .push(", ")
        .optional_text(reservation.holder.as_ref().map(Holder::as_str))
        .push(", ")
        .optional_text(reservation.metadata.as_ref().map(|metadata| metadata.as_str()))
}

/// What reservations have in common that one statement changes alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    from_status: &'static str,
    from_version: u64,
    status: &'static str,
    version: u64,
    updated_at: Timestamp,
    /// Where it is another than before.
    expires_at: Option<Timestamp>,
}

fn change_reservations(script: &mut Script, transitions: &[Transition]) -> Vec<Expected> {
    let mut groups: BTreeMap<Alike, Vec<&Reservation>> = BTreeMap::new();
    for Transition { reservation, from_status, from_version } in transitions {
        let alike = Alike {
            from_status: from_status.as_str(),
            from_version: *from_version,
            status: reservation.status.as_str(),
            version: reservation.version,
            updated_at: reservation.updated_at,
            // A hold ends when it was to end, whatever becomes of it; only an extension changes that, and a hold that was
            // extended in this batch may be committed in it too.
            expires_at: (reservation.status == Status::Held || reservation.version > from_version + 1)
                .then_some(reservation.expires_at),
        };
        groups.entry(alike).or_default().push(reservation);
    }
    let mut expected = Vec::new();
    for (alike, reservations) in &groups {
        // One list each, so that each has its own number of rows.
        for part in reservations.chunks(LIST_MAX) {
            let rows = part.iter().map(|reservation| reservation.items.len() as u64).sum();
            let tokens = part.iter().map(|reservation| &reservation.token);
            let places = script.add_lists(tokens, session::token, || change(alike), "");
            expected.extend(places.into_iter().map(|place| (place, rows)));
        }
    }
    expected
}

fn change(alike: &Alike) -> Sql {
    let sql = Sql::new("UPDATE reservations FORCE INDEX (PRIMARY) SET status = ")
        .text(alike.status)
        .push(", version = ")
        .unsigned(alike.version)
        .push(", updated_at = ")
        .integer(alike.updated_at.as_microsecond());
    let sql = match alike.expires_at {
        Some(expires_at) => sql.push(", expires_at = ").integer(expires_at.as_microsecond()),
        None => sql,
    };
    sql.push(" WHERE status = ")
        .text(alike.from_status)
        .push(" AND version = ")
        .unsigned(alike.from_version)
        .push(" AND token IN ")
}

/// Adds events to the outbox, in their order; their ids are drawn here.
fn add_events(script: &mut Script, events: Vec<Event>) -> Result<Vec<Expected>, StoreError> {
    let written = events
        .into_iter()
        .map(|event| Ok((event.key.text(), payload(&event)?, event)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let row = |sql: Sql, (key, payload, event): &(String, String, Event)| {
        let sql = sql
            .bytes(Uuid::now_v7().as_bytes())
            .push(", ")
            .integer(i64::from(shard(key)))
            .push(", ")
            .text(key)
            .push(", ")
            .unsigned(event.version)
            .push(", ")
            .text(event.kind.as_str())
            .push(", ")
            .text(payload)
            .push(", ")
            .integer(event.at.as_microsecond())
            .push(", ");
        sql.optional_text(event.trace.map(|trace| trace.traceparent()).as_ref().map(Traceparent::as_str))
    };
    Ok(script.add_rows(
        &written,
        row,
        "INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at, traceparent) VALUES",
    ))
}

fn update_resource(guard: Guard, update: &ResourceUpdate) -> Sql {
    let ResourceUpdate { resource, from_version, from_available } = update;
    let id = resource.id.as_str();
    if guard == Guard::Conditional {
        let difference = signed(resource.available) - signed(*from_available);
        return Sql::new("UPDATE resources SET available = available + ")
            .integer(difference)
            .push(", version = version + ")
            .unsigned(resource.version - from_version)
            .push(", updated_at = GREATEST(updated_at, ")
            .integer(resource.updated_at.as_microsecond())
            .push(") WHERE id = ")
            .text(id)
            .push(" AND available + ")
            .integer(difference)
            .push(" BETWEEN 0 AND total");
    }
    let sql = Sql::new("UPDATE resources SET total = ")
        .unsigned(resource.total)
        .push(", available = ")
        .unsigned(resource.available)
        .push(", version = ")
        .unsigned(resource.version)
        .push(", fulfilment = ")
        .text(resource.fulfilment.as_str())
        .push(", updated_at = ")
        .integer(resource.updated_at.as_microsecond())
        .push(" WHERE id = ")
        .text(id);
    match guard {
        Guard::Unguarded => sql,
        _ => sql.push(" AND version = ").unsigned(*from_version),
    }
}

/// Units are at most 2^53.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
