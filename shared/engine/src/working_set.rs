//! The slice of the books that a batch of commands needs, and what the commands changed in it.
//!
//! A store fills it (resources and reservations under lock), [`apply`](super::apply()) changes it, and
//! [`WorkingSet::into_changes`] says what to write. It must hold everything that the commands name and that exists:
//! what it lacks, does not exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Event, IdempotencyKey, Reservation, Resource, ResourceId, Status, Timestamp, Token};
use crate::trace::TraceContext;

/// See the module.
#[derive(Debug, Default)]
pub struct WorkingSet {
    resources: BTreeMap<ResourceId, Entry<Resource>>,
    reservations: HashMap<Token, Entry<Reservation>>,
    keys: HashMap<IdempotencyKey, Token>,
    overdue: BTreeSet<(Timestamp, Token)>,
    short: BTreeSet<ResourceId>,
    events: Vec<Event>,
    cause: Option<TraceContext>,
}

/// A record, and what of it the store has. `stored` is `None` for one that is new.
#[derive(Debug)]
struct Entry<T> {
    record: T,
    stored: Option<Stored>,
    dirty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    version: u64,
    /// Of a reservation.
    status: Option<Status>,
    /// Of a resource.
    available: u64,
}

/// What a batch changed, in lock order: resources by id, reservations by token. Events are in the order in which the
/// commands caused them.
#[derive(Debug, Default)]
pub struct Changes {
    /// Resources that are new.
    pub created_resources: Vec<Resource>,
    /// Resources that changed.
    pub updated_resources: Vec<ResourceUpdate>,
    /// Reservations that are new.
    pub created_reservations: Vec<Reservation>,
    /// Reservations that changed.
    pub transitions: Vec<Transition>,
    /// What happened.
    pub events: Vec<Event>,
}

/// A resource that changed.
#[derive(Debug)]
pub struct ResourceUpdate {
    /// As it is now.
    pub resource: Resource,
    /// The version that the change was decided on.
    pub from_version: u64,
    /// What was available then.
    pub from_available: u64,
}

/// A reservation that changed.
#[derive(Debug)]
pub struct Transition {
    /// As it is now.
    pub reservation: Reservation,
    /// The status that the change was decided on.
    pub from_status: Status,
    /// The version that the change was decided on.
    pub from_version: u64,
}

impl Changes {
    /// Whether nothing changed, so that there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.created_resources.is_empty()
            && self.updated_resources.is_empty()
            && self.created_reservations.is_empty()
            && self.transitions.is_empty()
            && self.events.is_empty()
    }
}

impl WorkingSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a resource as the store has it.
    pub fn add_resource(&mut self, resource: Resource) {
        debug_assert!(resource.available <= resource.total, "{resource:?}");
        let stored = Some(Stored { version: resource.version, status: None, available: resource.available });
        self.resources.insert(resource.id.clone(), Entry { record: resource, stored, dirty: false });
    }

    /// Adds a reservation as the store has it: one that a command names, or one that bears a command's key.
    pub fn add_reservation(&mut self, reservation: Reservation) {
        debug_assert!(!reservation.items.is_empty(), "{reservation:?}");
        let stored =
            Some(Stored { version: reservation.version, status: Some(reservation.status), available: 0 });
        self.keys.insert(reservation.key.clone(), reservation.token);
        self.reservations.insert(reservation.token, Entry { record: reservation, stored, dirty: false });
    }

    /// Says that a reservation of this set may be expired by a hold or a define that falls short. It must be under
    /// lock, and so must all its resources be.
    pub fn offer_overdue(&mut self, token: Token) {
        if let Some(entry) = self.reservations.get(&token) {
            self.overdue.insert((entry.record.expires_at, token));
        }
    }

    /// Says which request the commands that follow are of: their events bear its trace.
    pub fn caused_by(&mut self, trace: Option<TraceContext>) {
        self.cause = trace;
    }

    /// A resource of the set.
    pub fn resource(&self, id: &ResourceId) -> Option<&Resource> {
        self.resources.get(id).map(|entry| &entry.record)
    }

    /// A reservation of the set.
    pub fn reservation(&self, token: Token) -> Option<&Reservation> {
        self.reservations.get(&token).map(|entry| &entry.record)
    }

    /// The reservation that bears a key.
    pub fn reservation_by_key(&self, key: &IdempotencyKey) -> Option<&Reservation> {
        self.keys.get(key).and_then(|token| self.reservation(*token))
    }

    /// Resources for want of which some command was refused. If the store has overdue holds of these that the set does
    /// not, the batch must be run again with them.
    pub fn short(&self) -> &BTreeSet<ResourceId> {
        &self.short
    }

    /// When the first hold of a resource that this batch made will end.
    pub fn next_release_of_new(&self, id: &ResourceId) -> Option<Timestamp> {
        self.reservations
            .values()
            .filter(|entry| entry.stored.is_none() && entry.record.status == Status::Held)
            .filter(|entry| entry.record.items.iter().any(|item| item.resource_id == *id))
            .map(|entry| entry.record.expires_at)
            .min()
    }

    /// What the commands changed.
    pub fn into_changes(self) -> Changes {
        let mut changes = Changes { events: self.events, ..Changes::default() };
        for entry in self.resources.into_values().filter(|entry| entry.dirty) {
            match entry.stored {
                None => changes.created_resources.push(entry.record),
                Some(stored) => changes.updated_resources.push(ResourceUpdate {
                    resource: entry.record,
                    from_version: stored.version,
                    from_available: stored.available,
                }),
            }
        }
        for entry in self.reservations.into_values().filter(|entry| entry.dirty) {
            match entry.stored {
                Some(Stored { version, status: Some(from_status), .. }) => changes
                    .transitions
                    .push(Transition { reservation: entry.record, from_status, from_version: version }),
                _ => changes.created_reservations.push(entry.record),
            }
        }
        changes.created_reservations.sort_unstable_by_key(|reservation| reservation.token);
        changes.transitions.sort_unstable_by_key(|transition| transition.reservation.token);
        changes
    }

    pub(super) fn overdue(&self) -> impl Iterator<Item = Token> + '_ {
        self.overdue.iter().map(|(_, token)| *token)
    }

    pub(super) fn note_short(&mut self, id: &ResourceId) {
        if !self.short.contains(id) {
            self.short.insert(id.clone());
        }
    }

    pub(super) fn create_resource(&mut self, resource: Resource) {
        let before =
            self.resources.insert(resource.id.clone(), Entry { record: resource, stored: None, dirty: true });
        debug_assert!(before.is_none(), "a resource was created twice");
    }

    pub(super) fn create_reservation(&mut self, reservation: Reservation) {
        self.keys.insert(reservation.key.clone(), reservation.token);
        let before = self
            .reservations
            .insert(reservation.token, Entry { record: reservation, stored: None, dirty: true });
        debug_assert!(before.is_none(), "a token was drawn twice");
    }

    /// A resource, to be changed.
    pub(super) fn resource_mut(&mut self, id: &ResourceId) -> Option<&mut Resource> {
        self.resources.get_mut(id).map(|entry| {
            entry.dirty = true;
            &mut entry.record
        })
    }

    /// A reservation, to be changed.
    pub(super) fn reservation_mut(&mut self, token: Token) -> Option<&mut Reservation> {
        self.reservations.get_mut(&token).map(|entry| {
            entry.dirty = true;
            &mut entry.record
        })
    }

    pub(super) fn push_event(&mut self, event: Event) {
        self.events.push(Event { trace: self.cause, ..event });
    }
}
