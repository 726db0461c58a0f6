//! How many attempts a dispatcher can begin, and how they are shared out among endpoints.

use std::collections::HashMap;

use crate::{engine::Timestamp, webhooks::EndpointId};

/// How many attempts a dispatcher can begin.
#[derive(Clone, Debug)]
pub struct ClaimCapacity {
    /// The attempts that it can begin in total, apart from those of `idle`.
    pub in_all: u32,
    /// The attempts that it makes at the same time to one endpoint.
    pub per_endpoint: u32,
    /// The attempts at the same time of an endpoint that `windows` does not name.
    pub at_first: u32,
    /// The attempts at the same time that a receiver is trusted with, by endpoint.
    pub windows: HashMap<EndpointId, u32>,
    /// The attempts in flight, by endpoint.
    pub under_way: HashMap<EndpointId, u32>,
    /// The endpoints with nothing in flight that may begin one attempt each, whatever `in_all` says: slots that no
    /// other endpoint can take.
    pub idle: u32,
}

/// An enabled endpoint with a delivery that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEndpoint {
    /// The endpoint.
    pub id: EndpointId,
    /// The time since when its first delivery is due.
    pub since: Timestamp,
    /// Whether its circuit is half open, so that one attempt probes it.
    pub is_probe: bool,
    /// Whether no failure of it is on record.
    pub is_healthy: bool,
}

impl ClaimCapacity {
    /// How many deliveries to claim of each endpoint that has any due. An endpoint with nothing in flight gets a slot
    /// of its own. The others are assigned one at a time to the endpoint with the fewest in flight, so that no backlog
    /// of one endpoint, however old, delays the others.
    pub(in crate::store) fn allot(&self, mut due: Vec<DueEndpoint>) -> Vec<(DueEndpoint, u32)> {
        due.sort_by_key(|endpoint| endpoint.since);
        let busy = |endpoint: &DueEndpoint| self.under_way.get(&endpoint.id).copied().unwrap_or(0);
        let window = |endpoint: &DueEndpoint| match self.windows.get(&endpoint.id) {
            _ if endpoint.is_probe => 1,
            Some(window) => (*window).min(self.per_endpoint),
            None => self.at_first.min(self.per_endpoint),
        };
        let mut idle = self.idle;
        let mut allotted: Vec<(DueEndpoint, u32)> = due
            .into_iter()
            .map(|endpoint| {
                let has_slot = idle > 0 && busy(&endpoint) == 0;
                idle -= u32::from(has_slot);
                (endpoint, u32::from(has_slot))
            })
            .collect();
        for _ in 0..self.in_all {
            let next = allotted
                .iter_mut()
                .filter(|(endpoint, count)| busy(endpoint) + count < window(endpoint))
                .min_by_key(|(endpoint, count)| busy(endpoint) + count);
            let Some((_, count)) = next else { break };
            *count += 1;
        }
        allotted.retain(|(_, count)| *count > 0);
        allotted
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn due(n: u128) -> DueEndpoint {
        DueEndpoint {
            id: EndpointId::from_uuid(Uuid::from_u128(n)),
            since: Timestamp::from_second(i64::try_from(n).expect("small")).expect("a time"),
            is_probe: false,
            is_healthy: true,
        }
    }

    fn room(in_all: u32, idle: u32, under_way: &[(u128, u32)]) -> ClaimCapacity {
        let under_way = under_way.iter().map(|(endpoint, count)| (due(*endpoint).id, *count)).collect();
        ClaimCapacity { in_all, per_endpoint: 8, at_first: 8, windows: HashMap::new(), under_way, idle }
    }

    #[test]
    fn an_old_backlog_does_not_stand_in_the_way_of_others() {
        let all = vec![due(2), due(1), due(3)];
        assert_eq!(room(3, 0, &[(1, 7), (2, 7)]).allot(all.clone()), [(due(3), 3)]);
        assert_eq!(room(1, 0, &[]).allot(all.clone()), [(due(1), 1)], "the oldest first");
        assert_eq!(room(64, 0, &[(3, 8)]).allot(all.clone()), [(due(1), 8), (due(2), 8)]);
        assert_eq!(room(5, 0, &[]).allot(all.clone()), [(due(1), 2), (due(2), 2), (due(3), 1)]);
        assert_eq!(room(0, 0, &[]).allot(all), []);
    }

    #[test]
    fn an_endpoint_with_nothing_in_flight_has_a_slot_of_its_own() {
        let all: Vec<_> = (1..=51).map(due).collect();
        let busy: Vec<_> = (1..=50).map(|n| (n, 1)).collect();
        assert_eq!(room(0, 100, &busy).allot(all.clone()), [(due(51), 1)], "all other slots are taken");
        assert_eq!(room(0, 100, &[]).allot(all.clone()).len(), 51);
        assert_eq!(
            room(0, 3, &[]).allot(all),
            [(due(1), 1), (due(2), 1), (due(3), 1)],
            "the reserve is bounded"
        );
    }

    #[test]
    fn a_failing_endpoint_gets_one_attempt_at_a_time_and_a_probed_one_too() {
        let mut room = room(64, 100, &[]);
        room.windows = [(due(1).id, 1), (due(3).id, 99)].into();
        let probed = DueEndpoint { is_probe: true, ..due(2) };
        assert_eq!(room.allot(vec![due(1), probed, due(3)]), [(due(1), 1), (probed, 1), (due(3), 8)]);
        room.under_way = [(due(1).id, 1), (probed.id, 1)].into();
        assert_eq!(room.allot(vec![due(1), probed]), []);
    }
}
