//! The books in memory, as a store would keep them, with a check of the invariants.

use std::collections::{BTreeMap, HashMap};

use crate::*;

/// The books as a store would keep them.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) resources: BTreeMap<ResourceId, Resource>,
    pub(super) reservations: BTreeMap<Token, Reservation>,
    pub(super) events: HashMap<EventKey, Vec<(u64, EventType)>>,
}

impl Books {
    pub(super) fn working_set(&self, now: Timestamp) -> WorkingSet {
        let mut set = WorkingSet::new();
        self.resources.values().for_each(|resource| set.add_resource(resource.clone()));
        self.reservations.values().for_each(|reservation| set.add_reservation(reservation.clone()));
        for reservation in self.reservations.values().filter(|reservation| reservation.is_overdue(now)) {
            set.offer_overdue(reservation.token);
        }
        set
    }

    pub(super) fn write(&mut self, changes: Changes) {
        for resource in changes.created_resources {
            assert!(self.resources.insert(resource.id.clone(), resource).is_none());
        }
        for update in changes.updated_resources {
            let before = self.resources.insert(update.resource.id.clone(), update.resource).expect("known");
            assert_eq!(before.version, update.from_version, "decided on another version");
        }
        for reservation in changes.created_reservations {
            assert!(self.reservations.insert(reservation.token, reservation).is_none());
        }
        for transition in changes.transitions {
            let token = transition.reservation.token;
            let before = self.reservations.insert(token, transition.reservation).expect("known");
            assert_eq!((before.status, before.version), (transition.from_status, transition.from_version));
        }
        for event in changes.events {
            self.events.entry(event.key).or_default().push((event.version, event.kind));
        }
    }

    /// Checks I1, I3 and I7 in the stored records.
    pub(super) fn check(&self) {
        for resource in self.resources.values() {
            let taken: u64 = self
                .reservations
                .values()
                .filter(|reservation| reservation.status.takes_stock())
                .flat_map(|reservation| reservation.items.iter())
                .filter(|item| item.resource_id == resource.id)
                .map(|item| item.quantity.units())
                .sum();
            assert_eq!(resource.available + taken, resource.total, "I1: {resource:?}");
            let edges =
                self.events.get(&EventKey::Resource(resource.id.clone())).map_or(&[][..], Vec::as_slice);
            assert!(
                edges.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 != two[1].1),
                "edges: {edges:?}"
            );
            if let Some((_, last)) = edges.last() {
                assert_eq!(
                    *last == EventType::Depleted,
                    resource.available == 0,
                    "I7: {resource:?} after {edges:?}"
                );
            }
        }
        for reservation in self.reservations.values() {
            let events = &self.events[&EventKey::Reservation(reservation.token)];
            let versions: Vec<u64> = events.iter().map(|(version, _)| *version).collect();
            assert_eq!(versions, (1..=reservation.version).collect::<Vec<_>>(), "I7: {reservation:?}");
            let ends = [EventType::Committed, EventType::Released, EventType::Expired];
            assert!(events.iter().filter(|(_, kind)| ends.contains(kind)).count() <= 1, "I3: {events:?}");
        }
    }
}
