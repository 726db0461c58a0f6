//! Writes the changes of a batch as statements: set-based, with the hot rows last, each with the number of rows that
//! it must match.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Clock, Guard, StoreError,
    round_trip::{TrackedConnection, clock_of, rows},
    sql::{LIST_MAX, Script, Sql},
    statements::{self, CLOCK},
};
use crate::{
    engine::{
        Changes, Event, EventKey, Holder, ReportedStock, Reservation, Resource, ResourceId, ResourceUpdate,
        Status, Timestamp, Transition,
    },
    store::{Contention, decode, outbox::payload, shards::shard},
    trace::{TraceContext, Traceparent},
};

/// The place of a statement, and how many rows it must change.
type Expected = (usize, u64);

/// Writes changes: new records, transitions and events, and resources last; returns the time after the last lock. Takes
/// one round trip, or two if an event depends on what the update found.
pub(super) async fn changes(
    connection: &mut TrackedConnection,
    (guard, clock): (Guard, &Clock),
    changes: Changes,
) -> Result<Timestamp, StoreError> {
    let mut script = Script::default();
    let mut expected = Vec::new();
    // If edges are found only by the update, the transaction has only one command, so all events have the same cause.
    let cause = changes.events.first().and_then(|event| event.trace);
    let reported = changes.reported_stock;
    expected.extend(create_resources(&mut script, &changes.created_resources));
    expected.extend(create_reservations(&mut script, &changes.created_reservations));
    expected.extend(change_reservations(&mut script, &changes.transitions));
    // Under row locks the resources are locked already. Otherwise the update locks them, and the ids of a resource's
    // events must not be drawn before that: the ids of one key must be in commit order.
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
            script.add_lists(ids, statements::id, || Sql::new(statements::RESOURCES), "")
        }
        Guard::RowLock | Guard::Optimistic => Vec::new(),
        #[cfg(feature = "lab")]
        Guard::Unguarded => Vec::new(),
    };
    let now = script.add(Sql::new(CLOCK));

    let results = connection.run(script).await?;
    let now = clock_of(&results, now, clock)?;
    for (place, rows) in expected {
        let touched = results.get(place).map_or(0, |result| result.affected);
        if touched != rows {
            return Err(StoreError::changed_meanwhile(touched, rows));
        }
    }
    let later = if guard == Guard::Conditional {
        let found = found.into_iter().flat_map(|place| rows(&results, place));
        let found = found.map(decode::resource).collect::<Result<Vec<_>, _>>()?;
        edges(updates, later, found, (cause, reported))?
    } else {
        later
    };
    if !later.is_empty() {
        let mut script = Script::default();
        add_events(&mut script, later)?;
        connection.run(script).await?;
    }
    Ok(now)
}

/// The edges of resources that were changed by a difference. The state that the update found decides, not the one
/// that had been read.
fn edges(
    updates: &[ResourceUpdate],
    decided: Vec<Event>,
    found: Vec<Resource>,
    (cause, reported): (Option<TraceContext>, ReportedStock),
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
            let event = Event::of_movement(before, found, reported);
            edges.extend(event.map(|event| Event { trace: cause, ..event }));
        } else {
            // There were several movements, and edges may lie between them that can no longer be determined.
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

/// What reservations have in common that one statement changes together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ChangeGroup {
    from_status: &'static str,
    from_version: u64,
    status: &'static str,
    version: u64,
    updated_at: Timestamp,
    /// Set only if it changed.
    expires_at: Option<Timestamp>,
}

fn change_reservations(script: &mut Script, transitions: &[Transition]) -> Vec<Expected> {
    let mut groups: BTreeMap<ChangeGroup, Vec<&Reservation>> = BTreeMap::new();
    for Transition { reservation, from_status, from_version } in transitions {
        let group = ChangeGroup {
            from_status: from_status.as_str(),
            from_version: *from_version,
            status: reservation.status.as_str(),
            version: reservation.version,
            updated_at: reservation.updated_at,
            // The end of a hold stays as it is whatever becomes of the hold. Only an extension changes it, and a hold
            // that was extended in this batch may also be committed in it.
            expires_at: (reservation.status == Status::Held || reservation.version > from_version + 1)
                .then_some(reservation.expires_at),
        };
        groups.entry(group).or_default().push(reservation);
    }
    let mut expected = Vec::new();
    for (group, reservations) in &groups {
        // One list for each statement, so that each has its own number of rows.
        for part in reservations.chunks(LIST_MAX) {
            let rows = part.iter().map(|reservation| reservation.items.len() as u64).sum();
            let tokens = part.iter().map(|reservation| &reservation.token);
            let places = script.add_lists(tokens, statements::token, || change(group), "");
            expected.extend(places.into_iter().map(|place| (place, rows)));
        }
    }
    expected
}

fn change(group: &ChangeGroup) -> Sql {
    let sql = Sql::new("UPDATE reservations FORCE INDEX (PRIMARY) SET status = ")
        .text(group.status)
        .push(", version = ")
        .unsigned(group.version)
        .push(", updated_at = ")
        .integer(group.updated_at.as_microsecond());
    let sql = match group.expires_at {
        Some(expires_at) => sql.push(", expires_at = ").integer(expires_at.as_microsecond()),
        None => sql,
    };
    sql.push(" WHERE status = ")
        .text(group.from_status)
        .push(" AND version = ")
        .unsigned(group.from_version)
        .push(" AND token IN ")
}

/// Appends events to the outbox in order, and draws their ids.
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
    if guard.prevents_overselling() { sql.push(" AND version = ").unsigned(*from_version) } else { sql }
}

/// Converts units, which are at most 2^53, to the signed type of a column.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
