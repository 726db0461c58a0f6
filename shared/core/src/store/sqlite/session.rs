//! The write path: the statements of the transaction of one batch.
//!
//! Each statement takes one JSON array (for inserts, see `insert.rs`), so the number of statements is fixed whatever
//! the size of the batch. `CROSS JOIN` keeps SQLite from reordering the join: the array drives, and the table is
//! looked up by its key. `OR FAIL` saves the statement journal that would be needed to undo one statement alone: if a
//! statement fails, the whole transaction is rolled back anyway.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Sqlite, SqliteConnection, pool::PoolConnection, sqlite::SqliteRow};

use super::{Clock, StoreError, clock, connect::Pool, error::failed, insert, json};
use crate::{
    engine::{Changes, ResourceId, Timestamp, Token, WorkingSet},
    store::{
        batch::{self, HoldsOf},
        decode,
    },
};

/// One `BEGIN IMMEDIATE` transaction. It holds the only write lock of the database, so everything that it reads is
/// locked.
///
/// A connection returns to the pool only after a COMMIT or ROLLBACK that succeeded; otherwise it is closed, which
/// undoes what was begun. (After a COMMIT that failed for want of space, SQLite has rolled back by itself, and sqlx's
/// own transaction type would count itself as open for ever.)
pub(in crate::store) struct SqliteSession {
    connection: PoolConnection<Sqlite>,
    clean: bool,
    clock: Clock,
}

impl Drop for SqliteSession {
    fn drop(&mut self) {
        if !self.clean {
            self.connection.close_on_drop();
        }
    }
}

macro_rules! reservation_columns {
    ($table:literal) => {
        concat!(
            $table,
            ".token, ",
            $table,
            ".item_no, ",
            $table,
            ".resource_id, ",
            $table,
            ".quantity, ",
            $table,
            ".status, ",
            $table,
            ".version, ",
            $table,
            ".created_at, ",
            $table,
            ".expires_at, ",
            $table,
            ".updated_at, ",
            $table,
            ".idempotency_key, ",
            $table,
            ".fingerprint, ",
            $table,
            ".holder, ",
            $table,
            ".metadata"
        )
    };
}
pub(super) use reservation_columns;

const RESOURCES_BY_ID: &str =
    "SELECT r.id, r.total, r.available, r.version, r.fulfilment, r.created_at, r.updated_at
    FROM json_each(?1) j CROSS JOIN resources r ON r.id = j.value";

const RESERVATIONS_BY_TOKEN: &str = concat!(
    "SELECT ",
    reservation_columns!("r"),
    " FROM json_each(?1) j CROSS JOIN reservations r ON r.token = unhex(j.value) ORDER BY r.token, r.item_no"
);

pub(super) const RESERVATIONS_BY_KEY: &str = concat!(
    "SELECT ",
    reservation_columns!("r"),
    " FROM json_each(?1) j
    CROSS JOIN reservations k ON k.scope = '' AND k.idempotency_key = j.value AND k.idempotency_key IS NOT NULL
    CROSS JOIN reservations r ON r.token = k.token
    ORDER BY r.token, r.item_no"
);

const HOLDS_OF: &str = "SELECT j.value,
        EXISTS (SELECT 1 FROM reservations r
            WHERE r.resource_id = j.value AND r.status = 'HELD' AND r.expires_at <= ?2),
        (SELECT min(r.expires_at) FROM reservations r
            WHERE r.resource_id = j.value AND r.status = 'HELD' AND r.expires_at > ?2)
    FROM json_each(?1) j";

const OVERDUE_OF_RESOURCE: &str = "SELECT r.token FROM reservations r
    WHERE r.resource_id = ?1 AND r.status = 'HELD' AND r.expires_at <= ?2 ORDER BY r.expires_at, r.token LIMIT ?3";

const CREATE_RESOURCES: &str =
    "INSERT OR FAIL INTO resources (id, total, available, version, fulfilment, created_at, updated_at)
    SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6
    FROM json_each(?1) j";

const UPDATE_RESOURCES: &str =
    "UPDATE OR FAIL resources SET total = j.value ->> 2, available = j.value ->> 3,
        version = j.value ->> 4, fulfilment = j.value ->> 5, updated_at = j.value ->> 6
    FROM json_each(?1) j WHERE resources.id = j.value ->> 0 AND resources.version = j.value ->> 1";

const CHANGE_RESERVATIONS: &str =
    "UPDATE OR FAIL reservations SET status = j.value ->> 3, version = j.value ->> 4,
        expires_at = j.value ->> 5, updated_at = j.value ->> 6
    FROM json_each(?1) j WHERE reservations.token = unhex(j.value ->> 0)
        AND reservations.status = j.value ->> 1 AND reservations.version = j.value ->> 2";

impl SqliteSession {
    pub(super) async fn begin(writer: &Pool, clock: Clock) -> Result<Self, StoreError> {
        let connection = writer.acquire().await?;
        let mut session = Self { connection, clean: false, clock };
        session.control("BEGIN IMMEDIATE").await?;
        Ok(session)
    }

    /// The connection, inside the transaction.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// The clock that the transaction reads.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn control(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::query(sql).execute(&mut *self.connection).await.map(drop).map_err(failed)
    }

    async fn rows(&mut self, sql: &'static str, json: String) -> Result<Vec<SqliteRow>, StoreError> {
        sqlx::query(sql).bind(json).fetch_all(&mut *self.connection).await.map_err(failed)
    }

    /// Runs a statement that must change exactly `rows` rows: each change must find the version that it was decided
    /// on.
    async fn change(&mut self, sql: &'static str, json: String, rows: u64) -> Result<(), StoreError> {
        let done = sqlx::query(sql).bind(json).execute(&mut *self.connection).await.map_err(failed)?;
        if done.rows_affected() == rows {
            Ok(())
        } else {
            Err(StoreError::changed_meanwhile(done.rows_affected(), rows))
        }
    }
}

impl batch::Session for SqliteSession {
    async fn load(&mut self, plan: &batch::LockPlan) -> Result<WorkingSet, StoreError> {
        let mut set = WorkingSet::new();
        let mut resources = plan.resources.clone();
        if !plan.tokens.is_empty() {
            let rows = self.rows(RESERVATIONS_BY_TOKEN, json::tokens_json(&plan.tokens)?).await?;
            for reservation in decode::reservations(&rows)? {
                if plan.with_resources.contains(&reservation.token) {
                    resources.extend(reservation.items.iter().map(|item| item.resource_id.clone()));
                }
                set.add_reservation(reservation);
            }
        }
        if !plan.keys.is_empty() {
            let rows = self.rows(RESERVATIONS_BY_KEY, json::keys_json(&plan.keys)?).await?;
            for reservation in decode::reservations(&rows)? {
                set.add_reservation(reservation);
            }
        }
        if !resources.is_empty() {
            for row in self.rows(RESOURCES_BY_ID, json::ids_json(&resources)?).await? {
                set.add_resource(decode::resource(&row)?);
            }
        }
        for token in &plan.overdue {
            set.offer_overdue(*token);
        }
        Ok(set)
    }

    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        Ok(clock::now(&self.clock))
    }

    async fn holds_of(
        &mut self,
        resources: &BTreeSet<ResourceId>,
        now: Timestamp,
    ) -> Result<HashMap<ResourceId, HoldsOf>, StoreError> {
        let rows: Vec<(String, bool, Option<i64>)> = sqlx::query_as(HOLDS_OF)
            .bind(json::ids_json(resources)?)
            .bind(now.as_microsecond())
            .fetch_all(&mut *self.connection)
            .await
            .map_err(failed)?;
        let mut holds = HashMap::with_capacity(rows.len());
        for (id, overdue, next_end) in rows {
            if let Some(id) = resources.iter().find(|known| known.as_str() == id) {
                holds.insert(id.clone(), HoldsOf { overdue, next_end: decode::next_end(next_end) });
            }
        }
        Ok(holds)
    }

    async fn overdue(
        &mut self,
        wanted: &BTreeMap<ResourceId, u32>,
        now: Timestamp,
    ) -> Result<Vec<Token>, StoreError> {
        let mut tokens = Vec::new();
        for (id, limit) in wanted {
            let rows = sqlx::query(OVERDUE_OF_RESOURCE)
                .bind(id.as_str())
                .bind(now.as_microsecond())
                .bind(limit)
                .fetch_all(&mut *self.connection)
                .await
                .map_err(failed)?;
            tokens.extend(decode::tokens(&rows));
        }
        Ok(tokens)
    }

    async fn write(&mut self, changes: Changes) -> Result<Option<Timestamp>, StoreError> {
        if !changes.created_resources.is_empty() {
            let rows = changes.created_resources.len() as u64;
            self.change(CREATE_RESOURCES, json::created_resources_json(&changes.created_resources)?, rows)
                .await?;
        }
        if !changes.created_reservations.is_empty() {
            insert::reservations(&mut self.connection, &changes.created_reservations).await?;
        }
        if !changes.transitions.is_empty() {
            let (json, rows) = json::transitions_json(&changes.transitions)?;
            self.change(CHANGE_RESERVATIONS, json, rows).await?;
        }
        if !changes.events.is_empty() {
            insert::events(&mut self.connection, &changes.events).await?;
        }
        if !changes.updated_resources.is_empty() {
            let rows = changes.updated_resources.len() as u64;
            self.change(UPDATE_RESOURCES, json::updated_resources_json(&changes.updated_resources)?, rows)
                .await?;
        }
        // The whole file was locked when the clock was read.
        Ok(None)
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.control("COMMIT").await?;
        self.clean = true;
        Ok(())
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        self.control("ROLLBACK").await?;
        self.clean = true;
        Ok(())
    }
}
