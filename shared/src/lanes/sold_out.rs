//! What is known to be sold out, so that refusing a crowd asks the database once per batch and locks nothing.
//!
//! A refusal from memory is at most [`REMEMBERED_FOR`] old, never outlives the end of a hold of its resource, and is
//! forgotten when this process gives units of it back. Whether a key already bears a reservation is never remembered:
//! that is looked up each time, so a retry finds its own.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    engine::{Accepted, Outcome, Refusal, Reserve, ResourceId, Timestamp},
    store::Executed,
};

/// How long a refusal is remembered: what a refusal may lag another process's give-back by (I6).
const REMEMBERED_FOR: Duration = Duration::from_millis(50);
/// Resources in memory, above which those that are out of date are dropped.
const RESOURCES_MAX: usize = 4_096;

/// The memory, shared by all lanes.
#[derive(Debug, Default)]
pub(super) struct SoldOut(Mutex<HashMap<ResourceId, Known>>);

#[derive(Clone, Copy, Debug)]
enum Known {
    /// So few units were available.
    Short { read_at: Instant, available: u64, next_release_at: Option<Timestamp> },
    /// Units were given back here: nothing that was read before counts.
    GivenBack { at: Instant },
}

impl Known {
    fn is_fresh(&self) -> bool {
        match self {
            Self::Short { read_at: since, .. } | Self::GivenBack { at: since } => {
                since.elapsed() < REMEMBERED_FOR
            }
        }
    }
}

impl SoldOut {
    /// Learns from what became of a batch.
    pub(super) fn note(&self, executed: &Executed) {
        let mut known = self.known();
        for outcome in &executed.outcomes {
            match outcome {
                Err(Refusal::OutOfStock { resource_id, available, next_release_at, .. }) => {
                    let read_at = executed.read_at;
                    let outdated = match known.get(resource_id) {
                        Some(Known::GivenBack { at }) => *at >= read_at,
                        Some(Known::Short { read_at: newer, .. }) => *newer > read_at,
                        None => false,
                    };
                    if !outdated {
                        let short = Known::Short {
                            read_at,
                            available: *available,
                            next_release_at: *next_release_at,
                        };
                        known.insert(resource_id.clone(), short);
                    }
                }
                outcome => {
                    for id in given_back(outcome) {
                        known.insert(id.clone(), Known::GivenBack { at: Instant::now() });
                    }
                }
            }
        }
        if known.len() > RESOURCES_MAX {
            known.retain(|_, known| known.is_fresh());
        }
    }

    /// Whether a hold may be refused from memory, once its key was looked up. Only one of a single item: of several, the
    /// first by id that is missing or short must be named.
    pub(super) fn covers(&self, reserve: &Reserve) -> bool {
        self.short(reserve).is_some()
    }

    /// The refusal of a hold whose key bears nothing, at the store's `now`; none where that must be asked.
    pub(super) fn refusal(&self, reserve: &Reserve, now: Timestamp) -> Option<Refusal> {
        let (available, next_release_at) = self.short(reserve)?;
        if next_release_at.is_some_and(|at| at <= now) {
            return None;
        }
        let item = reserve.items.first()?;
        Some(Refusal::OutOfStock {
            resource_id: item.resource_id.clone(),
            requested: item.quantity.units(),
            available,
            next_release_at,
        })
    }

    fn short(&self, reserve: &Reserve) -> Option<(u64, Option<Timestamp>)> {
        let [item] = &reserve.items[..] else { return None };
        match self.known().get(&item.resource_id) {
            Some(known @ Known::Short { available, next_release_at, .. })
                if known.is_fresh() && *available < item.quantity.units() =>
            {
                Some((*available, *next_release_at))
            }
            _ => None,
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ResourceId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resources of which an outcome may have made units available.
fn given_back(outcome: &Outcome) -> Vec<&ResourceId> {
    match outcome {
        // Changed or not: an attempt whose COMMIT was not answered may have done it.
        Ok(Accepted::Reservation { reservation, .. }) if !reservation.status.takes_stock() => {
            reservation.items.iter().map(|item| &item.resource_id).collect()
        }
        Ok(Accepted::Resource { resource, .. }) => vec![&resource.id],
        _ => Vec::new(),
    }
}
