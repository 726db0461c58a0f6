//! Leases, each decided on a row that is locked meanwhile; the database's clock is read after the lock.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    MysqlStore, StoreError, read as views,
    round_trip::{TrackedConnection, clock_of, commit_with_retries, read, rows},
    sql::{Script, Sql},
    statements::CLOCK,
};
use crate::{
    engine::Timestamp,
    store::{
        LeaseStore, PurgedLeases, batch,
        decode::{self, Columns},
        leases,
        purge::before,
    },
};

/// The columns of a row, up to the condition on its name.
pub(super) const LEASE: &str =
    "SELECT name, owner, fencing, expires_at FROM leases FORCE INDEX (PRIMARY) WHERE name ";

#[async_trait]
impl LeaseStore for MysqlStore {
    async fn take_lease(
        &self,
        name: &str,
        owner: Uuid,
        lease_for: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let name = &leases::row_name(name);
        // The first owner inserts the row. If it exists already, this locks it exclusively at once, so a later
        // upgrade cannot deadlock.
        let free = Sql::new("INSERT INTO leases (name, owner, fencing, expires_at) VALUES (").text(name);
        let free = free.push(", NULL, 0, 0) ON DUPLICATE KEY UPDATE name = VALUES(name)");
        let decide = |row, now| leases::take(row, name, owner, now, lease_for);
        let taken = batch::with_retries(|_| self.update_lease(Some(free.clone()), name, decide)).await?;
        Ok(taken.map(|row| row.fencing))
    }

    async fn end_lease_in(
        &self,
        name: &str,
        owner: Uuid,
        fencing: u64,
        ends_in: Duration,
    ) -> Result<bool, StoreError> {
        let name = &leases::row_name(name);
        let decide = |row, now| leases::end_in(row, owner, fencing, now, ends_in);
        let ended = batch::with_retries(|_| self.update_lease(None, name, decide)).await?;
        Ok(ended.is_some())
    }

    async fn purge_leases(
        &self,
        ended_for: Duration,
        after: Option<&str>,
        limit: u32,
    ) -> Result<PurgedLeases, StoreError> {
        let cutoff = before(views::now(&self.readers.background, &self.options.clock).await?, ended_for)
            .as_microsecond();
        let (first, last) = leases::LOCKS;
        let mut script = Script::default();
        let ended = Sql::new("SELECT name FROM leases FORCE INDEX (PRIMARY) WHERE name > ");
        let ended = ended.text(after.unwrap_or(first)).push(" AND name < ").text(last);
        let ended = ended.push(" AND expires_at < ").integer(cutoff).push(" ORDER BY name LIMIT ");
        script.add(ended.integer(i64::from(limit)));
        let results = read(&self.readers.background, script).await?;
        let names = rows(&results, 0).iter().map(|row| row.text(0).map(str::to_owned));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            return Ok(PurgedLeases::default());
        }
        // The rows are locked by name, so that a lock that is in use is not waited for.
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        let head = || {
            let unused = Sql::new("DELETE l FROM leases l FORCE INDEX (PRIMARY) WHERE l.expires_at < ");
            unused.integer(cutoff).push(" AND l.name IN ")
        };
        let deletes = script.add_lists(&names, |sql, name| sql.text(name), head, "");
        let deleted = commit_with_retries(&self.writers, script, &deletes).await?;
        Ok(leases::purged(names, deleted, limit))
    }
}

impl MysqlStore {
    /// Locks a row, after creating it with `make`, decides on it, and writes the row that `decide` returns.
    async fn update_lease(
        &self,
        make: Option<Sql>,
        name: &str,
        decide: impl Fn(Option<leases::LeaseRow>, Timestamp) -> Option<leases::LeaseRow>,
    ) -> Result<Option<leases::LeaseRow>, StoreError> {
        let mut connection = TrackedConnection::open(&self.writers).await?;
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        if let Some(make) = make {
            script.add(make);
        }
        let row = script.add(Sql::new(LEASE).push("= ").text(name).push(" FOR UPDATE"));
        let now = script.add(Sql::new(CLOCK));
        let results = connection.run(script).await?;
        let row = rows(&results, row).first().map(decode::lease).transpose()?;
        let decided = decide(row, clock_of(&results, now, &self.options.clock)?);
        let mut script = Script::default();
        match &decided {
            Some(row) => {
                write(&mut script, std::slice::from_ref(row));
                script.add(Sql::new("COMMIT"));
            }
            None => {
                script.add(Sql::new("ROLLBACK"));
            }
        }
        connection.run(script).await?;
        connection.mark_clean();
        Ok(decided)
    }
}

/// Inserts rows, or overwrites them.
pub(super) fn write(script: &mut Script, written: &[leases::LeaseRow]) {
    let row = |sql: Sql, row: &leases::LeaseRow| {
        let sql = sql.text(&row.name).push(", ");
        let sql = match row.owner {
            Some(owner) => sql.bytes(owner.as_bytes()),
            None => sql.push("NULL"),
        };
        sql.push(", ").unsigned(row.fencing).push(", ").integer(row.expires_at.as_microsecond())
    };
    script.add_rows_then(
        written,
        row,
        "INSERT INTO leases (name, owner, fencing, expires_at) VALUES",
        " ON DUPLICATE KEY UPDATE owner = VALUES(owner), fencing = VALUES(fencing), expires_at = VALUES(expires_at)",
    );
}
