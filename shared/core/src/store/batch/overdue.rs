//! Overdue holds of a batch that falls short: how many join its lock set, and what its refusals say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Session, plan::LockPlan};
use crate::{
    engine::{Outcome, Refusal, ResourceId, Timestamp, Token, WorkingSet},
    store::{StoreError, damaged::DamagedHolds},
};

/// How many overdue holds join the lock set in the first round, for all resources together; the number doubles with
/// each round.
pub(super) const IN_FIRST_ROUND: u32 = 256;
/// How many times a batch is run again for more overdue holds. After the last round the lock set has up to 3,840 of
/// them.
pub(super) const ROUNDS_MAX: u32 = 4;

/// The stored holds of a resource.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct HoldsOf {
    /// Whether any hold is overdue.
    pub(in crate::store) overdue: bool,
    /// When the first hold that is not overdue ends.
    pub(in crate::store) next_end: Option<Timestamp>,
}

/// Finds overdue holds of the resources that fell short which are not in the lock set yet, at most `limit`: each
/// resource has an equal share. Holds that are known to be damaged are left out.
pub(super) async fn more<S: Session>(
    session: &mut S,
    (plan, set): (&LockPlan, &WorkingSet),
    holds: &HashMap<ResourceId, HoldsOf>,
    (now, limit): (Timestamp, u32),
    damaged: &DamagedHolds,
) -> Result<Vec<Token>, StoreError> {
    let short = || holds.iter().filter(|(_, holds)| holds.overdue).map(|(id, _)| id);
    let resources = u32::try_from(short().count()).unwrap_or(u32::MAX);
    if resources == 0 {
        return Ok(Vec::new());
    }
    let left_out = damaged.tokens();
    let share = (limit / resources).max(1).saturating_add(u32::try_from(left_out.len()).unwrap_or(u32::MAX));
    let mut wanted: BTreeMap<ResourceId, u32> = short().map(|id| (id.clone(), share)).collect();
    // The oldest holds are those that the lock set has already.
    for hold in plan.overdue.iter().filter_map(|token| set.reservation(*token)) {
        for item in hold.items.iter() {
            if let Some(count) = wanted.get_mut(&item.resource_id) {
                *count = count.saturating_add(1);
            }
        }
    }
    let found = session.overdue(&wanted, now).await?;
    let is_new = |token: &Token| !plan.overdue.contains(token) && !left_out.contains(token);
    // A hold of several items is found for each of its resources.
    let found: BTreeSet<Token> = found.into_iter().filter(is_new).collect();
    Ok(found.into_iter().take(limit as usize).collect())
}

/// Completes refusals for want of stock: adds when the next hold ends, or turns a refusal into `Backlogged` if the
/// units exist behind more overdue holds than one transaction may expire. Such a resource must never be reported as
/// sold out.
pub(super) fn refine_refusals(
    outcomes: &mut [Outcome],
    set: &WorkingSet,
    holds: &HashMap<ResourceId, HoldsOf>,
    backlogged: &HashMap<ResourceId, HoldsOf>,
) {
    let behind = |id: &ResourceId| backlogged.get(id).is_some_and(|holds| holds.overdue);
    let mut known: HashMap<ResourceId, Option<Timestamp>> = HashMap::new();
    for outcome in outcomes {
        match outcome {
            Err(Refusal::OutOfStock { resource_id, .. } | Refusal::StockInUse { resource_id, .. })
                if behind(resource_id) =>
            {
                *outcome = Err(Refusal::Backlogged { resource_id: resource_id.clone() });
            }
            Err(Refusal::OutOfStock { resource_id, next_release_at, .. }) => {
                *next_release_at = *known.entry(resource_id.clone()).or_insert_with(|| {
                    let stored = holds.get(resource_id).and_then(|holds| holds.next_end);
                    stored.into_iter().chain(set.next_release_of_new(resource_id)).min()
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        engine::{
            Changes, Fingerprint, IdempotencyKey, Item, Items, Limits, Quantity, Reservation, Status, Traced,
        },
        store::Guard,
    };

    /// A transaction in which each resource has any number of overdue holds. It remembers how many were read.
    #[derive(Default)]
    struct Fake {
        read: usize,
    }

    fn id(n: usize) -> ResourceId {
        ResourceId::new("id", &format!("r-{n:04}")).expect("valid")
    }

    /// The hold number `n` of a resource.
    fn token(resource: &ResourceId, n: u32) -> Token {
        let number: u128 = resource.as_str()[2..].parse().expect("a number");
        Token::from_uuid(Uuid::from_u128(number * 1_000_000 + u128::from(n)))
    }

    impl Session for Fake {
        async fn load(&mut self, _: &LockPlan) -> Result<WorkingSet, StoreError> {
            unreachable!()
        }
        async fn now(&mut self) -> Result<Timestamp, StoreError> {
            unreachable!()
        }
        async fn holds_of(
            &mut self,
            _: &BTreeSet<ResourceId>,
            _: Timestamp,
        ) -> Result<HashMap<ResourceId, HoldsOf>, StoreError> {
            unreachable!()
        }
        async fn overdue(
            &mut self,
            wanted: &BTreeMap<ResourceId, u32>,
            _: Timestamp,
        ) -> Result<Vec<Token>, StoreError> {
            let found: Vec<_> =
                wanted.iter().flat_map(|(id, count)| (0..*count).map(|n| token(id, n))).collect();
            self.read += found.len();
            Ok(found)
        }
        async fn write(&mut self, _: Changes) -> Result<Option<Timestamp>, StoreError> {
            unreachable!()
        }
        async fn commit(self) -> Result<(), StoreError> {
            unreachable!()
        }
        async fn rollback(self) -> Result<(), StoreError> {
            unreachable!()
        }
    }

    fn stored(resource: &ResourceId, token: Token) -> Reservation {
        let quantity = Quantity::new("quantity", 1).expect("valid");
        let items = vec![Item { resource_id: resource.clone(), quantity }];
        Reservation {
            token,
            items: Items::new(items, &Limits::default()).expect("valid"),
            status: Status::Held,
            holder: None,
            metadata: None,
            key: IdempotencyKey::new(&token.to_string()).expect("valid"),
            fingerprint: Fingerprint::from_bytes([0; 16]),
            version: 1,
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// The lock set grows by the same number of holds in a round, whatever the number of resources that fall short, and
    /// what is read to find them stays in proportion to it.
    #[tokio::test]
    async fn the_lock_set_is_bounded_for_the_whole_batch() {
        let now = Timestamp::UNIX_EPOCH;
        for resources in [1, 2, 100, 512] {
            let holds: HashMap<_, _> =
                (0..resources).map(|n| (id(n), HoldsOf { overdue: true, next_end: None })).collect();
            let mut plan = LockPlan::of(&Vec::<Traced>::new(), Guard::RowLock);
            let mut set = WorkingSet::new();
            let mut found_before = 0;
            for round in 0..ROUNDS_MAX {
                let limit = IN_FIRST_ROUND << round;
                let mut session = Fake::default();
                let damaged = DamagedHolds::default();
                let found = more(&mut session, (&plan, &set), &holds, (now, limit), &damaged).await;
                let found = found.expect("found");
                assert!(found.len() <= limit as usize, "{resources} resources: {} holds", found.len());
                assert!(found.len() >= limit as usize / 2, "{resources} resources: {} holds", found.len());
                let bound = found_before + (limit as usize).max(resources);
                assert!(session.read <= bound, "{resources} resources: {} read", session.read);
                for token in &found {
                    let number = usize::try_from(token.uuid().as_u128() / 1_000_000).expect("small");
                    set.add_reservation(stored(&id(number), *token));
                }
                found_before += found.len();
                plan.add_overdue(found);
            }
            assert!(plan.overdue.len() <= 3_840);
        }
    }

    #[tokio::test]
    async fn damaged_holds_are_left_out() {
        let holds: HashMap<_, _> =
            (0..2).map(|n| (id(n), HoldsOf { overdue: true, next_end: None })).collect();
        let damaged = DamagedHolds::default();
        damaged.leave_out((0..200).map(|n| token(&id(0), n)));
        let plan = LockPlan::of(&Vec::<Traced>::new(), Guard::RowLock);
        let at = (Timestamp::UNIX_EPOCH, IN_FIRST_ROUND);
        let found = more(&mut Fake::default(), (&plan, &WorkingSet::new()), &holds, at, &damaged).await;
        let found = found.expect("found");
        assert!(found.iter().all(|token| !damaged.tokens().contains(token)));
        assert!(found.contains(&token(&id(0), 200)) && found.contains(&token(&id(1), 0)), "{found:?}");
    }
}
