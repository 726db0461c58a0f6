//! The write path: the round trips of one batch's transaction.
//!
//! One round trip locks, reads and, in a statement of its own after the last lock, asks the clock; one writes; one
//! commits. Token commands that give back are preceded by an unlocked read of their items, which never change.

use std::collections::{BTreeSet, HashMap};

use super::connect::Pool;

use super::{
    Clock, Guard, StoreError,
    sql::{Script, Sql},
    wire::{Answer, Wire},
    write,
};
use crate::{
    engine::{Changes, ResourceId, Timestamp, Token, WorkingSet},
    store::{
        Contention,
        batch::{self, HoldsOf},
        decode::{self, Cells},
    },
};

/// `id, total, available, version, fulfilment, created_at, updated_at`.
pub(super) const RESOURCES: &str =
    "SELECT id, total, available, version, fulfilment, created_at, updated_at FROM resources FORCE INDEX (PRIMARY)
    WHERE id IN ";

/// What `decode::reservations` reads.
macro_rules! reservation_columns {
    () => {
        "SELECT r.token, r.item_no, r.resource_id, r.quantity, r.status, r.version, r.created_at, r.expires_at,
        r.updated_at, r.idempotency_key, r.fingerprint, r.holder, r.metadata FROM "
    };
}

/// By token, in lock order.
pub(super) const BY_TOKEN: &str =
    concat!(reservation_columns!(), "reservations r FORCE INDEX (PRIMARY) WHERE r.token IN ");

/// By key: the key's index finds item 0, the primary key all items of its reservation.
pub(super) const BY_KEY: &str = concat!(
    reservation_columns!(),
    "reservations k FORCE INDEX (reservations_key)
    STRAIGHT_JOIN reservations r FORCE INDEX (PRIMARY) ON r.token = k.token
    WHERE k.scope = '' AND k.idempotency_key IN "
);

/// Microseconds since 1970, when this statement runs; sessions are in UTC. `NOW(6)` would be the time at which the
/// statement began to wait, and `UTC_TIMESTAMP(6)` with it.
pub(super) const CLOCK: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', SYSDATE(6))";

/// The items of one reservation side by side.
pub(super) const ITEMS_IN_ORDER: &str = " ORDER BY r.token, r.item_no";

const ITEMS: &str = "SELECT DISTINCT resource_id FROM reservations FORCE INDEX (PRIMARY) WHERE token IN ";

/// One transaction. It begins with the round trip that loads.
pub(in crate::store) struct MysqlSession {
    wire: Wire,
    clock: Clock,
    guard: Guard,
    now: Timestamp,
}

/// What a statement of the loading round trip reads.
#[derive(Clone, Copy)]
enum Reads {
    Resources,
    Reservations,
}

impl MysqlSession {
    pub(super) async fn begin(writers: &Pool, clock: Clock) -> Result<Self, StoreError> {
        let wire = Wire::open(writers).await?;
        Ok(Self { wire, clock, guard: Guard::RowLock, now: Timestamp::UNIX_EPOCH })
    }

    /// The resources that the plan names, and those of the reservations that must be locked with theirs.
    async fn resources_of(&mut self, plan: &batch::LockPlan) -> Result<BTreeSet<ResourceId>, StoreError> {
        let mut resources = plan.resources.clone();
        if plan.with_resources.is_empty() {
            return Ok(resources);
        }
        let mut script = Script::default();
        script.add_lists(&plan.with_resources, token, || Sql::new(ITEMS), "");
        for row in self.wire.ask(script).await?.iter().flat_map(|answer| &answer.rows) {
            resources.insert(decode::resource_id(row, 0)?);
        }
        Ok(resources)
    }
}

impl batch::Session for MysqlSession {
    const ROUND_TRIPS_TO_END: u32 = 1;

    async fn load(&mut self, plan: &batch::LockPlan) -> Result<WorkingSet, StoreError> {
        self.guard = plan.guard;
        let resources = self.resources_of(plan).await?;
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION"));
        let mut reads = Vec::new();
        let lock = if plan.guard == Guard::RowLock { " ORDER BY id FOR UPDATE" } else { "" };
        let add_resources = |script: &mut Script, reads: &mut Vec<(usize, Reads)>| {
            let places = script.add_lists(&resources, id, || Sql::new(RESOURCES), lock);
            reads.extend(places.into_iter().map(|place| (place, Reads::Resources)));
        };
        // Resources first, in id order, then reservations in token order, where both are locked. Where resources are not,
        // they are read last: what they are guarded by begins there.
        if plan.guard == Guard::RowLock {
            add_resources(&mut script, &mut reads);
        }
        let tail = " ORDER BY r.token, r.item_no FOR UPDATE";
        let places = script.add_lists(&plan.tokens, token, || Sql::new(BY_TOKEN), tail);
        reads.extend(places.into_iter().map(|place| (place, Reads::Reservations)));
        if plan.guard != Guard::RowLock {
            add_resources(&mut script, &mut reads);
        }
        let places = script.add_lists(
            &plan.keys,
            |sql, key| sql.text(key.as_str()),
            || Sql::new(BY_KEY),
            ITEMS_IN_ORDER,
        );
        reads.extend(places.into_iter().map(|place| (place, Reads::Reservations)));
        let clock = script.add(Sql::new(CLOCK));

        let answers = self.wire.ask(script).await?;
        let mut set = WorkingSet::new();
        for (place, what) in reads {
            let rows = rows(&answers, place);
            match what {
                Reads::Resources => {
                    for row in rows {
                        set.add_resource(decode::resource(row)?);
                    }
                }
                Reads::Reservations => {
                    for reservation in decode::reservations(rows)? {
                        set.add_reservation(reservation);
                    }
                }
            }
        }
        self.now = clock_of(&answers, clock, &self.clock)?;
        for held in plan.with_resources.iter().filter_map(|token| set.reservation(*token)) {
            // It was made after its items were looked for.
            if held.items.iter().any(|item| !resources.contains(&item.resource_id)) {
                return Err(StoreError::contended(Contention::Changed, "a reservation appeared meanwhile"));
            }
        }
        for token in &plan.overdue {
            set.offer_overdue(*token);
        }
        Ok(set)
    }

    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        Ok(self.now)
    }

    async fn holds_of(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
    ) -> Result<HashMap<ResourceId, HoldsOf>, StoreError> {
        let mut script = Script::default();
        let places: Vec<_> = resources.iter().map(|id| (id, script.add(holds_of(id, now)))).collect();
        let answers = self.wire.ask(script).await?;
        let mut holds = HashMap::with_capacity(resources.len());
        for (id, place) in places {
            for row in rows(&answers, place) {
                let overdue = row.integer(0)? != 0;
                let next_end = row.optional_integer(1)?.map(decode::micros).transpose()?;
                holds.insert(id.clone(), HoldsOf { overdue, next_end });
            }
        }
        Ok(holds)
    }

    async fn overdue(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let mut script = Script::default();
        for id in resources {
            script.add(overdue_of(id, now, limit));
        }
        let answers = self.wire.ask(script).await?;
        answers.iter().flat_map(|answer| &answer.rows).map(decode::token).collect()
    }

    async fn write(&mut self, changes: Changes) -> Result<(), StoreError> {
        write::changes(&mut self.wire, self.guard, changes).await
    }

    fn round_trips(&self) -> u32 {
        self.wire.round_trips()
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.end("COMMIT").await
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }
}

impl MysqlSession {
    async fn end(&mut self, how: &'static str) -> Result<(), StoreError> {
        let mut script = Script::default();
        script.add(Sql::new(how));
        self.wire.ask(script).await?;
        self.wire.mark_clean();
        Ok(())
    }
}

/// Whether any hold of a resource is overdue, and when the first that is not ends.
fn holds_of(id: &ResourceId, now: Timestamp) -> Sql {
    let now = now.as_microsecond();
    Sql::new("SELECT EXISTS (SELECT 1 FROM reservations FORCE INDEX (reservations_due_of_resource) WHERE resource_id = ")
        .text(id.as_str())
        .push(" AND due_at <= ")
        .integer(now)
        .push("), (SELECT MIN(due_at) FROM reservations FORCE INDEX (reservations_due_of_resource) WHERE resource_id = ")
        .text(id.as_str())
        .push(" AND due_at > ")
        .integer(now)
        .push(")")
}

/// Overdue holds of a resource, oldest first.
fn overdue_of(id: &ResourceId, now: Timestamp, limit: u32) -> Sql {
    Sql::new("SELECT token FROM reservations FORCE INDEX (reservations_due_of_resource) WHERE resource_id = ")
        .text(id.as_str())
        .push(" AND due_at <= ")
        .integer(now.as_microsecond())
        .push(" ORDER BY due_at LIMIT ")
        .integer(i64::from(limit))
}

pub(super) fn token(sql: Sql, token: &Token) -> Sql {
    sql.bytes(token.uuid().as_bytes())
}

pub(super) fn id(sql: Sql, id: &ResourceId) -> Sql {
    sql.text(id.as_str())
}

/// The rows of the answer at a place.
pub(super) fn rows(answers: &[Answer], place: usize) -> &[sqlx::mysql::MySqlRow] {
    answers.get(place).map_or(&[], |answer| &answer.rows)
}

/// What the clock statement at a place answered, unless a test stopped the clock.
pub(super) fn clock_of(answers: &[Answer], place: usize, clock: &Clock) -> Result<Timestamp, StoreError> {
    match (clock, rows(answers, place).first()) {
        (Clock::Fixed(clock), _) => Ok(clock.now()),
        (Clock::Own, Some(row)) => decode::timestamp(row, 0),
        (Clock::Own, None) => Err(decode::corrupt("the clock does not answer".to_owned())),
    }
}
