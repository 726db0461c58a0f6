//! The slice of the books that a batch of commands needs, and the changes that the commands make to it.
//!
//! A store fills the set with locked resources and reservations, [`apply`](super::apply()) changes it, and
//! [`WorkingSet::into_changes`] returns the changes to write. The set must hold every existing record that the
//! commands name: a record that the set lacks does not exist for the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Command, Event, IdempotencyKey, ReportedStock, Reservation, Resource, ResourceId, Status, Timestamp,
    Token,
};
use crate::trace::TraceContext;

/// The records of one batch. See the module.
#[derive(Debug, Default)]
pub struct WorkingSet {
    resources: BTreeMap<ResourceId, Entry<Resource>>,
    reservations: HashMap<Token, Entry<Reservation>>,
    keys: HashMap<IdempotencyKey, Token>,
    overdue: BTreeSet<(Timestamp, Token)>,
    short: BTreeSet<ResourceId>,
    events: Vec<Event>,
    cause: Option<TraceContext>,
    reported_stock: ReportedStock,
}

/// A record with its stored version. `stored` is `None` for a new record.
#[derive(Debug)]
struct Entry<T> {
    record: T,
    stored: Option<Stored>,
    dirty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    version: u64,
    /// Only for a reservation.
    status: Option<Status>,
    /// Only for a resource.
    available: u64,
}

/// The changes of a batch in lock order: resources by id, reservations by token. Events are in the order in which the
/// commands caused them.
#[derive(Debug, Default)]
pub struct Changes {
    /// New resources.
    pub created_resources: Vec<Resource>,
    /// Resources that changed.
    pub updated_resources: Vec<ResourceUpdate>,
    /// New reservations.
    pub created_reservations: Vec<Reservation>,
    /// Reservations that changed.
    pub transitions: Vec<Transition>,
    /// The events of the changes.
    pub events: Vec<Event>,
    /// The movements of stock that these events report.
    pub reported_stock: ReportedStock,
}

/// A resource that changed.
#[derive(Debug)]
pub struct ResourceUpdate {
    /// The resource after the change.
    pub resource: Resource,
    /// The version that the change was decided on.
    pub from_version: u64,
    /// The units that were available at that version.
    pub from_available: u64,
}

/// A reservation that changed.
#[derive(Debug)]
pub struct Transition {
    /// The reservation after the change.
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
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the movements of stock that become events: the edges, if this is not called.
    pub fn report_stock(&mut self, reported: ReportedStock) {
        self.reported_stock = reported;
    }

    /// The movements of stock that become events.
    pub(super) fn reported_stock(&self) -> ReportedStock {
        self.reported_stock
    }

    /// Adds a resource as stored.
    pub fn add_resource(&mut self, resource: Resource) {
        debug_assert!(resource.available <= resource.total, "{resource:?}");
        let stored = Some(Stored { version: resource.version, status: None, available: resource.available });
        self.resources.insert(resource.id.clone(), Entry { record: resource, stored, dirty: false });
    }

    /// Adds a reservation as stored: one that a command names, or one that has a command's idempotency key.
    pub fn add_reservation(&mut self, reservation: Reservation) {
        debug_assert!(!reservation.items.is_empty(), "{reservation:?}");
        let stored =
            Some(Stored { version: reservation.version, status: Some(reservation.status), available: 0 });
        self.keys.insert(reservation.key.clone(), reservation.token);
        self.reservations.insert(reservation.token, Entry { record: reservation, stored, dirty: false });
    }

    /// Offers a reservation of this set to be expired by a hold or a define that falls short. The reservation and all
    /// its resources must be locked.
    pub fn offer_overdue(&mut self, token: Token) {
        if let Some(entry) = self.reservations.get(&token) {
            self.overdue.insert((entry.record.expires_at, token));
        }
    }

    /// Sets the trace of the request that issued the commands that follow; their events carry it.
    pub fn caused_by(&mut self, trace: Option<TraceContext>) {
        self.cause = trace;
    }

    /// Returns a resource of the set.
    pub fn resource(&self, id: &ResourceId) -> Option<&Resource> {
        self.resources.get(id).map(|entry| &entry.record)
    }

    /// Returns a reservation of the set.
    pub fn reservation(&self, token: Token) -> Option<&Reservation> {
        self.reservations.get(&token).map(|entry| &entry.record)
    }

    /// Returns the reservation that has an idempotency key.
    pub fn reservation_by_key(&self, key: &IdempotencyKey) -> Option<&Reservation> {
        self.keys.get(key).and_then(|token| self.reservation(*token))
    }

    /// The resources for want of which some command was refused. If the store has overdue holds of these resources
    /// that the set does not have, the batch must run again with them.
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

    /// Returns the changes of the commands.
    pub fn into_changes(self) -> Changes {
        let mut changes =
            Changes { events: self.events, reported_stock: self.reported_stock, ..Changes::default() };
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

    /// The number of events so far.
    pub(super) fn event_count(&self) -> usize {
        self.events.len()
    }

    /// Whether the resources that a command names have at most their total available (I1). For assertions.
    pub(super) fn is_balanced(&self, command: &Command) -> bool {
        let is_balanced = |id| self.resource(id).is_none_or(|resource| resource.available <= resource.total);
        match command {
            Command::Define(define) => is_balanced(&define.resource_id),
            Command::Reserve(reserve) => reserve.items.iter().all(|item| is_balanced(&item.resource_id)),
            _ => {
                let reservation = command.token().and_then(|token| self.reservation(token));
                reservation.is_none_or(|found| found.items.iter().all(|item| is_balanced(&item.resource_id)))
            }
        }
    }

    pub(super) fn overdue(&self) -> impl Iterator<Item = Token> + '_ {
        self.overdue.iter().map(|(_, token)| *token)
    }

    pub(super) fn record_shortfall(&mut self, id: &ResourceId) {
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

    /// Returns a resource, to be changed.
    pub(super) fn resource_mut(&mut self, id: &ResourceId) -> Option<&mut Resource> {
        self.resources.get_mut(id).map(|entry| {
            entry.dirty = true;
            &mut entry.record
        })
    }

    /// Returns a reservation, to be changed.
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
