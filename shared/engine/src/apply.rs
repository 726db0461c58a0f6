//! The rules: what each command does to the books at an instant.
//!
//! Refusals are values. A command that is refused changes nothing (I12), because every rule decides first and changes
//! afterwards. Debug builds assert what must hold before and after a change.

use super::{
    Accepted, Change, Command, Define, Event, EventType, Extend, Outcome, Refusal, Reservation, Reserve,
    Resource, ResourceChange, Status, Timestamp, Token, WorkingSet,
    cover::{Want, cover},
    movement::Movement,
};

/// Applies one command to the working set at `now`, and returns its outcome.
///
/// The set must hold every record that the command names and that exists, and every reservation under the command's
/// idempotency key. `now` must not be earlier than the instant at which the last of the set's records was locked: a
/// store reads it from the database's clock, in a statement of its own, after the last lock.
///
/// # Examples
/// ```
/// use bespeak_engine::{
///     Accepted, Command, Define, IdempotencyKey, Item, Items, Limits, Refusal, ReserveDraft, ResourceId, Token,
///     WorkingSet, apply,
/// };
///
/// let now = "2026-01-01T12:00:00Z".parse()?;
/// let limits = Limits::default();
/// let room = ResourceId::new("resourceId", "room-101")?;
/// let mut set = WorkingSet::new();
///
/// let define = Define { resource_id: room.clone(), total: 3, fulfilment: None };
/// apply(&mut set, &Command::Define(define), now).expect("nothing is in use");
///
/// let reserve = |key: &str, token: u128| {
///     let item = Item { resource_id: room.clone(), quantity: limits.quantity("quantity", 2)? };
///     let draft = ReserveDraft {
///         items: Items::new(vec![item], &limits)?,
///         ttl: limits.ttl("ttlSeconds", Some(60))?,
///         holder: None,
///         metadata: None,
///         key: IdempotencyKey::new(key)?,
///     };
///     let token = Token::from_uuid(uuid::Uuid::from_u128(token));
///     Ok::<_, bespeak_engine::Violation>(Command::Reserve(draft.with_token(token)))
/// };
/// let held = apply(&mut set, &reserve("order-17", 1)?, now);
/// assert!(matches!(held, Ok(Accepted::Reservation { .. })));
///
/// // One unit is left, and a refusal is a value.
/// let refused = apply(&mut set, &reserve("order-18", 2)?, now);
/// assert!(matches!(refused, Err(Refusal::OutOfStock { requested: 2, available: 1, .. })));
///
/// // The store writes what changed: a new resource, a new reservation and its event.
/// let changes = set.into_changes();
/// assert_eq!((changes.created_resources.len(), changes.events.len()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn apply(set: &mut WorkingSet, command: &Command, now: Timestamp) -> Outcome {
    debug_assert!(
        set.is_balanced(command),
        "{command:?} names a resource with more available than its total"
    );
    let events = set.event_count();
    let outcome = match command {
        Command::Define(define) => apply_define(set, define, now),
        Command::Reserve(reserve) => apply_reserve(set, reserve, now),
        Command::Commit(token) => commit(set, *token, now),
        Command::Release(token) => release(set, *token, now),
        Command::Extend(extend) => apply_extend(set, extend, now),
        Command::Cancel(token) => cancel(set, *token, now),
        Command::Expire(token) => expire(set, *token, now),
    };
    debug_assert!(outcome.is_ok() || set.event_count() == events, "I12: a refused command wrote an event");
    debug_assert!(
        set.is_balanced(command),
        "I1: {command:?} left a resource with more available than its total"
    );
    outcome
}

fn apply_reserve(set: &mut WorkingSet, command: &Reserve, now: Timestamp) -> Outcome {
    if let Some(earlier) = set.reservation_by_key(&command.key) {
        return replay(earlier, command, now);
    }
    if let Some(item) = command.items.iter().find(|item| set.resource(&item.resource_id).is_none()) {
        return Err(Refusal::ResourceNotFound { resource_id: item.resource_id.clone() });
    }
    let wanted: Vec<Want<'_>> = command
        .items
        .iter()
        .map(|item| Want { id: &item.resource_id, units: item.quantity.units() })
        .collect();
    let expiring = match cover(set, &wanted, now) {
        Ok(expiring) => expiring,
        Err(short) => {
            return Err(Refusal::OutOfStock {
                resource_id: short.id,
                requested: short.wanted,
                available: short.reachable,
                next_release_at: None,
            });
        }
    };

    let mut movement = Movement::new();
    for token in expiring {
        expire_within(set, &mut movement, token, now);
    }
    movement.take(set, &command.items);
    let reservation = Reservation {
        token: command.token,
        items: command.items.clone(),
        status: Status::Held,
        holder: command.holder.clone(),
        metadata: command.metadata.clone(),
        key: command.key.clone(),
        fingerprint: command.fingerprint,
        version: 1,
        created_at: now,
        // No overflow: a TTL is at most 2^32 seconds, and the last timestamp lies in the year 9999.
        expires_at: now + command.ttl.duration(),
        updated_at: now,
    };
    set.push_event(Event::of_reservation(EventType::Held, &reservation));
    set.create_reservation(reservation.clone());
    movement.finish(set, now);
    accepted(reservation, Change::Changed)
}

/// The outcome of a reserve command whose idempotency key already has a reservation: a replay if its units are still
/// held or committed, or a refusal if it has ended or the request is a different one.
pub fn replay(earlier: &Reservation, command: &Reserve, now: Timestamp) -> Outcome {
    if !command.is_request_of(earlier.fingerprint) {
        return Err(Refusal::KeyReused);
    }
    let reservation = earlier.clone().as_of(now);
    // A caller takes an accepted retry for units that are its own, and goes on to charge for them.
    if !reservation.status.takes_stock() {
        return Err(Refusal::ReservationEnded { reservation: Box::new(reservation) });
    }
    // The same token: this very command made the reservation, in an earlier attempt whose COMMIT was not answered.
    let change = if earlier.token == command.token { Change::Changed } else { Change::Replayed };
    accepted(reservation, change)
}

fn apply_define(set: &mut WorkingSet, command: &Define, now: Timestamp) -> Outcome {
    let Some(resource) = set.resource(&command.resource_id) else {
        let resource = Resource {
            id: command.resource_id.clone(),
            total: command.total,
            available: command.total,
            version: 1,
            fulfilment: command.fulfilment.unwrap_or_default(),
            created_at: now,
            updated_at: now,
        };
        set.create_resource(resource.clone());
        return Ok(Accepted::Resource { resource, change: ResourceChange::Created });
    };

    let fulfilment = command.fulfilment.unwrap_or(resource.fulfilment);
    if (resource.total, resource.fulfilment) == (command.total, fulfilment) {
        return Ok(Accepted::Resource { resource: resource.clone(), change: ResourceChange::Unchanged });
    }
    // Lowering the total takes units away just as a hold does, so overdue holds are expired first if they are needed.
    let taken_away = resource.total.saturating_sub(command.total);
    let (previous_total, available, in_use) = (resource.total, resource.available, resource.in_use());
    let expiring = match cover(set, &[Want { id: &command.resource_id, units: taken_away }], now) {
        Ok(expiring) => expiring,
        Err(short) => {
            return Err(Refusal::StockInUse {
                resource_id: short.id,
                requested_total: command.total,
                in_use: in_use - (short.reachable - available),
            });
        }
    };

    let mut movement = Movement::new();
    for token in expiring {
        expire_within(set, &mut movement, token, now);
    }
    movement.touch(set, &command.resource_id);
    if let Some(resource) = set.resource_mut(&command.resource_id) {
        let in_use = resource.in_use();
        resource.total = command.total;
        resource.available = command.total - in_use;
        resource.fulfilment = fulfilment;
    }
    movement.finish(set, now);
    match set.resource(&command.resource_id) {
        Some(resource) => {
            let change = ResourceChange::Changed { previous_total };
            Ok(Accepted::Resource { resource: resource.clone(), change })
        }
        None => Err(Refusal::ResourceNotFound { resource_id: command.resource_id.clone() }),
    }
}

fn commit(set: &mut WorkingSet, token: Token, now: Timestamp) -> Outcome {
    let hold = find(set, token)?;
    match hold.status {
        Status::Held if hold.is_overdue(now) => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Held => change_status(set, token, Status::Committed, EventType::Committed, now),
        Status::Committed => accepted(hold.clone(), Change::Unchanged),
        Status::Released => Err(Refusal::AlreadyReleased),
        Status::Expired => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Cancelled => Err(Refusal::AlreadyCancelled),
    }
}

fn release(set: &mut WorkingSet, token: Token, now: Timestamp) -> Outcome {
    let hold = find(set, token)?;
    match hold.status {
        Status::Held if hold.is_overdue(now) => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Held => give_back(set, token, Status::Released, EventType::Released, now),
        Status::Released => accepted(hold.clone(), Change::Unchanged),
        Status::Committed => Err(Refusal::AlreadyCommitted),
        Status::Expired => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Cancelled => Err(Refusal::AlreadyCancelled),
    }
}

fn cancel(set: &mut WorkingSet, token: Token, now: Timestamp) -> Outcome {
    let reservation = find(set, token)?;
    match reservation.status {
        Status::Committed => give_back(set, token, Status::Cancelled, EventType::Cancelled, now),
        Status::Cancelled => accepted(reservation.clone(), Change::Unchanged),
        Status::Held | Status::Released | Status::Expired => {
            Err(Refusal::NotCommitted { status: reservation.clone().as_of(now).status })
        }
    }
}

fn expire(set: &mut WorkingSet, token: Token, now: Timestamp) -> Outcome {
    let hold = find(set, token)?;
    match hold.status {
        Status::Held if hold.is_overdue(now) => {
            let mut movement = Movement::new();
            let expired = expire_within(set, &mut movement, token, now);
            movement.finish(set, now);
            expired.map_or(Err(Refusal::ReservationNotFound), |hold| accepted(hold, Change::Changed))
        }
        Status::Held => Err(Refusal::NotDue { expires_at: hold.expires_at }),
        Status::Expired => accepted(hold.clone(), Change::Unchanged),
        Status::Committed => Err(Refusal::AlreadyCommitted),
        Status::Released => Err(Refusal::AlreadyReleased),
        Status::Cancelled => Err(Refusal::AlreadyCancelled),
    }
}

fn apply_extend(set: &mut WorkingSet, command: &Extend, now: Timestamp) -> Outcome {
    let hold = find(set, command.token)?;
    match hold.status {
        Status::Held if hold.is_overdue(now) => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Held => {
            let life = i64::try_from(command.life_max_seconds).unwrap_or(i64::MAX);
            let life_end =
                hold.created_at.checked_add(jiff::SignedDuration::from_secs(life)).unwrap_or(Timestamp::MAX);
            let expires_at = hold.expires_at.max((now + command.ttl.duration()).min(life_end));
            if expires_at == hold.expires_at {
                return accepted(hold.clone(), Change::Unchanged);
            }
            change(set, command.token, EventType::Extended, now, |hold| hold.expires_at = expires_at)
        }
        Status::Committed => Err(Refusal::AlreadyCommitted),
        Status::Released => Err(Refusal::AlreadyReleased),
        Status::Expired => Err(Refusal::HoldExpired { expired_at: hold.expires_at }),
        Status::Cancelled => Err(Refusal::AlreadyCancelled),
    }
}

fn find(set: &WorkingSet, token: Token) -> Result<&Reservation, Refusal> {
    set.reservation(token).ok_or(Refusal::ReservationNotFound)
}

#[expect(clippy::unnecessary_wraps, reason = "every rule ends in an outcome")]
fn accepted(reservation: Reservation, change: Change) -> Outcome {
    Ok(Accepted::Reservation { reservation, change })
}

/// Changes a reservation, increments its version, and records its event.
fn change(
    set: &mut WorkingSet,
    token: Token,
    kind: EventType,
    now: Timestamp,
    how: impl FnOnce(&mut Reservation),
) -> Outcome {
    let Some(reservation) = set.reservation_mut(token) else { return Err(Refusal::ReservationNotFound) };
    how(reservation);
    reservation.version += 1;
    reservation.updated_at = now;
    let reservation = reservation.clone();
    set.push_event(Event::of_reservation(kind, &reservation));
    accepted(reservation, Change::Changed)
}

fn change_status(set: &mut WorkingSet, token: Token, to: Status, kind: EventType, now: Timestamp) -> Outcome {
    change(set, token, kind, now, |reservation| reservation.status = to)
}

/// Ends a reservation that takes stock, and returns its units to their resources.
fn give_back(set: &mut WorkingSet, token: Token, to: Status, kind: EventType, now: Timestamp) -> Outcome {
    let outcome = change_status(set, token, to, kind, now);
    if let Ok(Accepted::Reservation { reservation, .. }) = &outcome {
        let mut movement = Movement::new();
        movement.give(set, &reservation.items);
        movement.finish(set, now);
    }
    outcome
}

/// Expires an overdue hold as a part of the command that owns the movement.
fn expire_within(
    set: &mut WorkingSet,
    movement: &mut Movement,
    token: Token,
    now: Timestamp,
) -> Option<Reservation> {
    debug_assert!(set.reservation(token).is_some_and(|hold| hold.is_overdue(now)));
    match change_status(set, token, Status::Expired, EventType::Expired, now) {
        Ok(Accepted::Reservation { reservation, .. }) => {
            movement.give(set, &reservation.items);
            Some(reservation)
        }
        _ => None,
    }
}
