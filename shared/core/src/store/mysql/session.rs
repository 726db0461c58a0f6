//! The write path: the round trips of the transaction of one batch.
//!
//! One round trip locks, reads and, in a statement of its own after the last lock, reads the clock; one writes; one
//! commits. Commands that give a reservation back are preceded by an unlocked read of its items, which never change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Clock, Guard, StoreError,
    connect::Pool,
    round_trip::{TrackedConnection, clock_of, rows},
    sql::{Script, Sql},
    statements::{self, BY_KEY, BY_TOKEN, CLOCK, ITEMS_IN_ORDER, RESOURCES},
    write,
};
use crate::{
    engine::{Changes, ResourceId, Timestamp, Token, WorkingSet},
    store::{
        Contention,
        batch::{self, HoldsOf},
        decode::{self, Columns},
    },
};

const ITEMS: &str = "SELECT DISTINCT resource_id FROM reservations FORCE INDEX (PRIMARY) WHERE token IN ";

/// One transaction. It begins with the round trip that loads.
pub(in crate::store) struct MysqlSession {
    connection: TrackedConnection,
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
        let connection = TrackedConnection::open(writers).await?;
        Ok(Self { connection, clock, guard: Guard::RowLock, now: Timestamp::UNIX_EPOCH })
    }

    /// The resources that the plan names, and those of the reservations whose resources must be locked too.
    async fn resources_of(&mut self, plan: &batch::LockPlan) -> Result<BTreeSet<ResourceId>, StoreError> {
        let mut resources = plan.resources.clone();
        if plan.with_resources.is_empty() {
            return Ok(resources);
        }
        let mut script = Script::default();
        script.add_lists(&plan.with_resources, statements::token, || Sql::new(ITEMS), "");
        for row in self.connection.run(script).await?.iter().flat_map(|result| &result.rows) {
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
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        let mut reads = Vec::new();
        let lock = if plan.guard == Guard::RowLock { " ORDER BY id FOR UPDATE" } else { "" };
        let add_resources = |script: &mut Script, reads: &mut Vec<(usize, Reads)>| {
            let places = script.add_lists(&resources, statements::id, || Sql::new(RESOURCES), lock);
            reads.extend(places.into_iter().map(|place| (place, Reads::Resources)));
        };
        // If resources are locked, they come first, in id order, and then reservations in token order. If resources
        // are not locked, they are read last, because the window that the guard must cover begins with that read.
        if plan.guard == Guard::RowLock {
            add_resources(&mut script, &mut reads);
        }
        let tail = " ORDER BY r.token, r.item_no FOR UPDATE";
        let places = script.add_lists(&plan.tokens, statements::token, || Sql::new(BY_TOKEN), tail);
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

        let results = self.connection.run(script).await?;
        let mut set = WorkingSet::new();
        for (place, what) in reads {
            let rows = rows(&results, place);
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
        self.now = clock_of(&results, clock, &self.clock)?;
        for held in plan.with_resources.iter().filter_map(|token| set.reservation(*token)) {
            // The reservation was made after its items were looked up.
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
        let results = self.connection.run(script).await?;
        let mut holds = HashMap::with_capacity(resources.len());
        for (id, place) in places {
            for row in rows(&results, place) {
                let overdue = row.integer(0)? != 0;
                let next_end = decode::next_end(row.optional_integer(1)?);
                holds.insert(id.clone(), HoldsOf { overdue, next_end });
            }
        }
        Ok(holds)
    }

    async fn overdue(
        &mut self,
        wanted: &BTreeMap<ResourceId, u32>,
        now: Timestamp,
    ) -> Result<Vec<Token>, StoreError> {
        let mut script = Script::default();
        for (id, limit) in wanted {
            script.add(overdue_of(id, now, *limit));
        }
        let results = self.connection.run(script).await?;
        Ok(results.iter().flat_map(|result| decode::tokens(&result.rows)).collect())
    }

    async fn write(&mut self, changes: Changes) -> Result<Option<Timestamp>, StoreError> {
        write::changes(&mut self.connection, (self.guard, &self.clock), changes).await.map(Some)
    }

    fn round_trips(&self) -> u32 {
        self.connection.round_trips()
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
        self.connection.run(script).await?;
        self.connection.mark_clean();
        Ok(())
    }
}

/// Whether any hold of a resource is overdue, and when the first hold that is not overdue ends.
fn holds_of(id: &ResourceId, now: Timestamp) -> Sql {
    let now = now.as_microsecond();
    Sql::new(
        "SELECT EXISTS (SELECT 1 FROM reservations FORCE INDEX (reservations_due_of_resource)
        WHERE resource_id = ",
    )
    .text(id.as_str())
    .push(" AND due_at <= ")
    .integer(now)
    .push(
        "), (SELECT MIN(due_at) FROM reservations FORCE INDEX (reservations_due_of_resource)
            WHERE resource_id = ",
    )
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
