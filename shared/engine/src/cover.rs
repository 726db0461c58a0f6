//! Which overdue holds a command expires that needs their units.

use std::collections::BTreeMap;

use super::{Item, Reservation, ResourceId, Timestamp, Token, WorkingSet};

/// Units of a resource that a command needs.
pub(super) struct Want<'a> {
    pub(super) id: &'a ResourceId,
    pub(super) units: u64,
}

/// The first resource, by id, that has too few units even if every overdue hold is expired.
pub(super) struct Shortfall {
    pub(super) id: ResourceId,
    pub(super) wanted: u64,
    pub(super) reachable: u64,
}

/// Chooses which overdue holds to expire, oldest first, so that every want is met; returns none if enough is
/// available. Changes only the set's record of which resources fell short.
pub(super) fn cover(
    set: &mut WorkingSet,
    wanted: &[Want<'_>],
    now: Timestamp,
) -> Result<Vec<Token>, Shortfall> {
    let available =
        |set: &WorkingSet, id: &ResourceId| set.resource(id).map_or(0, |resource| resource.available);
    let mut missing: Vec<(usize, u64)> = wanted
        .iter()
        .enumerate()
        .filter_map(|(n, want)| {
            let missing = want.units.saturating_sub(available(set, want.id));
            (missing > 0).then_some((n, missing))
        })
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut expiring = Vec::new();
    let mut given: Vec<u64> = vec![0; wanted.len()];
    let mut returned: BTreeMap<&ResourceId, u64> = BTreeMap::new();
    for token in set.overdue() {
        let Some(hold) = set.reservation(token).filter(|hold| hold.is_overdue(now)) else { continue };
        let helps = |item: &Item| {
            missing.iter().any(|(n, still)| *wanted[*n].id == item.resource_id && given[*n] < *still)
        };
        if hold.items.iter().any(helps) && may_return(set, &returned, hold) {
            for item in hold.items.iter() {
                *returned.entry(&item.resource_id).or_default() += item.quantity.units();
                if let Some(n) = wanted.iter().position(|want| *want.id == item.resource_id) {
                    given[n] += item.quantity.units();
                }
            }
            expiring.push(token);
        }
    }
    drop(returned);
    missing.retain(|(n, still)| given[*n] < *still);
    for (n, _) in &missing {
        set.record_shortfall(wanted[*n].id);
    }
    match missing.first() {
        None => Ok(expiring),
        Some((n, _)) => Err(Shortfall {
            id: wanted[*n].id.clone(),
            wanted: wanted[*n].units,
            reachable: available(set, wanted[*n].id) + given[*n],
        }),
    }
}

/// Whether the units of an overdue hold fit into its resources, after others were `returned`. In sound books they do.
/// If somebody changed the books by hand, the hold stays as it is, and commands that need its units are refused,
/// instead of failing each time.
fn may_return(set: &WorkingSet, returned: &BTreeMap<&ResourceId, u64>, hold: &Reservation) -> bool {
    hold.items.iter().all(|item| {
        let earlier = returned.get(&item.resource_id).copied().unwrap_or(0);
        set.resource(&item.resource_id)
            .is_some_and(|resource| resource.available + earlier + item.quantity.units() <= resource.total)
    })
}
