//! Moves units of resources, and records the edges of `available`.

use super::{Event, Item, ResourceId, Timestamp, WorkingSet};

/// The units that one command moves. An edge compares `available` before the command with `available` after it, so an
/// overdue unit that is sold again by the same command makes no edge.
pub(super) struct Movement {
    before: Vec<(ResourceId, u64)>,
}

impl Movement {
    pub(super) fn new() -> Self {
        Self { before: Vec::new() }
    }

    pub(super) fn touch(&mut self, set: &WorkingSet, id: &ResourceId) {
        if !self.before.iter().any(|(touched, _)| touched == id)
            && let Some(resource) = set.resource(id)
        {
            self.before.push((id.clone(), resource.available));
        }
    }

    pub(super) fn take(&mut self, set: &mut WorkingSet, items: &[Item]) {
        for item in items {
            self.touch(set, &item.resource_id);
            if let Some(resource) = set.resource_mut(&item.resource_id) {
                debug_assert!(
                    item.quantity.units() <= resource.available,
                    "oversold: {item:?} of {resource:?}"
                );
                resource.available -= item.quantity.units();
            }
        }
    }

    pub(super) fn give(&mut self, set: &mut WorkingSet, items: &[Item]) {
        for item in items {
            self.touch(set, &item.resource_id);
            debug_assert!(set.resource(&item.resource_id).is_some(), "{item:?} is not in the working set");
            if let Some(resource) = set.resource_mut(&item.resource_id) {
                resource.available += item.quantity.units();
                debug_assert!(resource.available <= resource.total, "gave back too much: {resource:?}");
            }
        }
    }

    pub(super) fn finish(self, set: &mut WorkingSet, now: Timestamp) {
        let reported = set.reported_stock();
        for (id, before) in self.before {
            let Some(resource) = set.resource_mut(&id) else { continue };
            resource.version += 1;
            resource.updated_at = now;
            if let Some(event) = Event::of_movement(before, resource, reported) {
                set.push_event(event);
            }
        }
    }
}
