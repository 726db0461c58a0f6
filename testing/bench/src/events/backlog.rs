//! The events that are drained and consumed: those of 100,000 committed reservations, as the engine writes them.
//!
//! They are written once, through the store. Each measurement copies the rows that it needs into its own database.

use bespeak::{
    engine::{
        Command, Define, EventType, Fulfilment, Holder, IdempotencyKey, Item, Items, Limits, Metadata,
        Quantity, Reserve, ReserveDraft, ResourceId, Token,
    },
    envelope::OutboxEvent,
    store::{
        CommitMode, OutboxRead, OutboxStore, Store,
        mysql::{MysqlOptions, MysqlStore},
    },
};
use serde_json::{json, value::to_raw_value};
use uuid::Uuid;

use super::tables::migrated;
use crate::{Error, client::random_key, mysql::Database};

/// The number of reservations. Each has two events, one for its hold and one for its commit.
pub(super) const RESERVATIONS: usize = 100_000;
/// The number of events.
pub(super) const EVENTS: u64 = 2 * RESERVATIONS as u64;
/// The number of reserved resources. Each is opened by a SmartKey.
const RESOURCES: usize = 1_000;
/// The number of holds before the first of them is committed. It is small enough that usually both events of
/// a reservation are in one batch of the relay, where the second waits for the first.
const HOLDS_BEFORE_COMMIT: usize = 500;
/// The columns of an event that are copied.
const COLUMNS: &str = "event_id, shard, event_key, key_version, type, payload, created_at";
/// An age in microseconds that is greater than the default retention of published events.
const LONG_AGO_MICROS: u64 = 25 * 3_600_000_000;

/// A database with the events, all of them unpublished.
pub(crate) struct Backlog {
    name: String,
    payload_bytes: String,
}

impl Backlog {
    /// Writes the events through the store.
    pub(crate) async fn write(database: &Database) -> Result<Self, Error> {
        let (name, store) = migrated(database).await?;
        let ids = (0..RESOURCES)
            .map(|n| ResourceId::new("id", &format!("berlin/room-{n:04}")))
            .collect::<Result<Vec<_>, _>>()?;
        let define = |id: &ResourceId| Define {
            resource_id: id.clone(),
            total: 1_000_000_000,
            fulfilment: Some(Fulfilment::SmartKey),
        };
        accepted(&store, ids.iter().map(|id| Command::Define(define(id))).collect()).await?;
        for first in (0..RESERVATIONS).step_by(HOLDS_BEFORE_COMMIT) {
            let numbers = first..(first + HOLDS_BEFORE_COMMIT).min(RESERVATIONS);
            let holds = numbers.map(|n| hold(&ids[n % RESOURCES], n)).collect::<Result<Vec<_>, _>>()?;
            let commits = holds.iter().map(|hold| Command::Commit(hold.token)).collect();
            accepted(&store, holds.into_iter().map(Command::Reserve).collect()).await?;
            accepted(&store, commits).await?;
        }
        store.close().await;
        let bytes = format!("SELECT CAST(ROUND(AVG(LENGTH(payload))) AS CHAR) FROM {name}.outbox");
        let payload_bytes = database.status(&bytes).await?;
        Ok(Self { name, payload_bytes })
    }

    /// A description of the events, for the report.
    pub(super) fn describe(&self) -> String {
        format!(
            "a hold and a commit for each token, {HOLDS_BEFORE_COMMIT} events apart, {} bytes of data each on average",
            self.payload_bytes
        )
    }

    /// Copies the oldest events into the outbox of a database, unpublished.
    pub(crate) async fn copy(&self, database: &Database, to: &str, events: u64) -> Result<(), Error> {
        let Self { name, .. } = self;
        let copy = format!(
            "INSERT INTO {to}.outbox ({COLUMNS}) SELECT {COLUMNS} FROM {name}.outbox ORDER BY id LIMIT {events}"
        );
        database.run(copy).await
    }

    /// Copies all events into the outbox of a database, with publication times so old that they are due to be purged.
    pub(super) async fn copy_published(&self, database: &Database, to: &str) -> Result<(), Error> {
        let Self { name, .. } = self;
        let copy = format!(
            "INSERT INTO {to}.outbox ({COLUMNS}, published_at)
            SELECT {COLUMNS}, created_at - {LONG_AGO_MICROS} FROM {name}.outbox ORDER BY id"
        );
        database.run(copy).await
    }

    /// Copies the resources into a database.
    pub(crate) async fn copy_resources(&self, database: &Database, to: &str) -> Result<(), Error> {
        let Self { name, .. } = self;
        database.run(format!("INSERT INTO {to}.resources SELECT * FROM {name}.resources")).await
    }

    /// All events.
    pub(super) async fn events(&self, database: &Database) -> Result<Vec<OutboxEvent>, Error> {
        let store = MysqlStore::new(&database.url(&self.name, None)?, MysqlOptions::default())?;
        let shards: Vec<u8> = (0..64).collect();
        let events = store.unpublished(&OutboxRead::oldest(&shards, u32::try_from(EVENTS)?)).await?.events;
        store.close().await;
        if events.len() as u64 == EVENTS { Ok(events) } else { Err("the backlog is not complete".into()) }
    }

    /// The events of the commits: one for each token.
    pub(crate) async fn commits(&self, database: &Database) -> Result<Vec<OutboxEvent>, Error> {
        let mut events = self.events(database).await?;
        events.retain(|event| event.kind == EventType::Committed.as_str());
        Ok(events)
    }
}

/// Executes commands, all of which must be accepted.
async fn accepted(store: &MysqlStore, commands: Vec<Command>) -> Result<(), Error> {
    let executed = store.execute(&commands, CommitMode::Commit).await?;
    if executed.outcomes.iter().all(Result::is_ok) { Ok(()) } else { Err("a command was refused".into()) }
}

/// A hold with a holder and metadata, as a shop would make it.
fn hold(id: &ResourceId, n: usize) -> Result<Reserve, Error> {
    let limits = Limits::default();
    let item = Item { resource_id: id.clone(), quantity: Quantity::new("quantity", 1)? };
    let draft = ReserveDraft {
        items: Items::new(vec![item], &limits)?,
        ttl: limits.ttl("ttlSeconds", None)?,
        holder: Some(Holder::new(&format!("customer-{n:08}"))?),
        metadata: Some(Metadata::new(
            &to_raw_value(&json!({"order": format!("order-{n:08}"), "channel": "web"}))?,
            &limits,
        )?),
        key: IdempotencyKey::new(&random_key())?,
    };
    Ok(draft.with_token(Token::from_uuid(Uuid::now_v7())))
}
