//! The frozen holder: a process that holds locks is stopped until their leases have expired and others have acquired
//! them, and then continues. It is Kleppmann's example
//! (<https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>), done with SIGSTOP.
//!
//! Never: a hook inside the process. It is stopped at a random moment while it sells many vehicles at once, so that
//! some of its transactions are between their read and their write. If none was, it is stopped again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bespeak::dispatch::Strategy;
use bespeak_lab::load::{Connection, Target};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    scratch::ScratchDatabase,
    servers::Servers,
    strategy::{alone, lease},
    subject::Subject,
    trial::{define, hold, on_a_database, reserve},
};
use bespeak_cli::{Failure, counted};

/// Vehicles that are sold at once: more than a server has transactions in flight.
const VEHICLES: u64 = 48;
const UNITS: u64 = 1_000_000;
/// The lease of the locks. It is short, so that a round does not take long.
const LEASE: Duration = Duration::from_millis(2_000);
/// How often the holder is stopped before the lab reports that it saw no unit sold twice.
const ROUNDS_MAX: u32 = 8;
/// How often the holder is stopped with the store's guard, where no unit may be sold twice.
const ROUNDS_GUARDED: u32 = 4;
/// How many units of each vehicle the other process sells while the holder is stopped.
const SOLD_MEANWHILE: u32 = 2;
/// How long the other process may take. It cannot sell a vehicle whose row the frozen process has locked, and need
/// not.
const MEANWHILE_MAX: Duration = Duration::from_secs(7);
/// How long the holder may take until it sells, and to finish its requests when it continues.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause after a refused attempt.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The result for one strategy, with the store's guard or without it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Frozen {
    pub(super) strategy: &'static str,
    /// Whether the store's guard was on.
    pub(super) guarded: bool,
    /// How often the holder was stopped.
    pub(super) rounds: u32,
    /// The lease of the locks.
    pub(super) lease_ms: u64,
    /// The longest time for which the holder was stopped.
    pub(super) frozen_ms: u64,
    /// Units that the other process sold while the holder was stopped.
    pub(super) sold_meanwhile: u64,
    /// Locks that the holder had lost when it finished: the lock failed, whether or not the write was refused.
    pub(super) locks_lost: u64,
    /// Units that were sold twice, counted in the tables.
    pub(super) duplicates: u64,
}

/// Stops a holder, with the store's guard on or off, until a unit was sold twice or the rounds are used up. `None` if
/// the lab was stopped.
pub(super) async fn run(
    servers: &Servers,
    stop: &CancellationToken,
    strategy: Strategy,
    guarded: bool,
) -> Result<Option<Frozen>, Failure> {
    on_a_database(servers, stop, async |database| rounds(servers, database, strategy, guarded).await).await
}

async fn rounds(
    servers: &Servers,
    database: &ScratchDatabase,
    strategy: Strategy,
    guarded: bool,
) -> Result<Frozen, Failure> {
    let mut settings = servers.settings(database, strategy);
    settings.push(lease(LEASE));
    let served = if guarded { strategy } else { alone(strategy).unwrap_or(strategy) };
    let holder = Subject::start(served, &settings).await?;
    let other = Subject::start(served, &settings).await?;
    let vehicles = define(&holder, VEHICLES, UNITS).await?;
    let mut frozen = Frozen {
        strategy: strategy.as_str(),
        guarded,
        rounds: 0,
        lease_ms: millis(LEASE),
        frozen_ms: 0,
        sold_meanwhile: 0,
        locks_lost: 0,
        duplicates: 0,
    };
    let rounds = if guarded { ROUNDS_GUARDED } else { ROUNDS_MAX };
    while frozen.rounds < rounds && frozen.duplicates == 0 {
        let (stopped_for, sold) = round(&holder, &other, &vehicles).await?;
        frozen.rounds += 1;
        frozen.frozen_ms = frozen.frozen_ms.max(millis(stopped_for));
        frozen.sold_meanwhile += sold;
        frozen.duplicates = database.duplicates().await?;
    }
    frozen.locks_lost = holder.locks_lost().await?;
    holder.stop().await;
    other.stop().await;
    Ok(frozen)
}

/// Stops the holder once. Returns how long it was stopped, and how many units the other process sold meanwhile.
async fn round(
    holder: &Subject,
    other: &Subject,
    vehicles: &Arc<[String]>,
) -> Result<(Duration, u64), Failure> {
    let selling = Arc::new(AtomicBool::new(true));
    let sold = Arc::new(AtomicU64::new(0));
    let mut customers = JoinSet::new();
    for number in 0..vehicles.len() {
        let (vehicles, selling, sold) = (vehicles.clone(), selling.clone(), sold.clone());
        let mut connection = holder.connect().await?;
        let target = holder.target.clone();
        customers.spawn(async move {
            while selling.load(Ordering::Relaxed) {
                let (used, held) = hold(connection, reserve(&vehicles[number])).await;
                let Some(usable) = usable(used, held.is_err(), &target).await else { return };
                connection = usable;
                sold.fetch_add(u64::from(held.is_ok_and(|answer| answer.status == 200)), Ordering::Relaxed);
            }
        });
    }
    let until = Instant::now() + PATIENCE;
    // On average, every customer has bought twice: all of them are in mid-sale.
    while sold.load(Ordering::Relaxed) < 2 * VEHICLES {
        if Instant::now() > until {
            return Err(Failure::new(format!(
                "the holder sold only {} in a minute",
                counted(sold.load(Ordering::Relaxed), "unit", "units")
            )));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    holder.freeze()?;
    let stopped = Instant::now();
    let sold_meanwhile = sell_meanwhile(other, vehicles).await?;
    // The leases of all locks that the holder had have expired by then.
    tokio::time::sleep_until((stopped + LEASE * 3 / 2).into()).await;
    selling.store(false, Ordering::Relaxed);
    holder.thaw()?;
    let stopped_for = stopped.elapsed();
    let ended =
        tokio::time::timeout(PATIENCE, async { while customers.join_next().await.is_some() {} }).await;
    ended.map_err(|error| Failure::caused("the holder does not continue", &error))?;
    Ok((stopped_for, sold_meanwhile))
}

/// Sells a few units of every vehicle that can be sold in time. Returns the number of units sold.
async fn sell_meanwhile(other: &Subject, vehicles: &Arc<[String]>) -> Result<u64, Failure> {
    let until = Instant::now() + MEANWHILE_MAX;
    let mut customers = JoinSet::new();
    for number in 0..vehicles.len() {
        let vehicles = vehicles.clone();
        let mut connection = other.connect().await?;
        let target = other.target.clone();
        customers.spawn(async move {
            let mut sold = 0;
            while sold < SOLD_MEANWHILE && Instant::now() < until {
                let attempt =
                    tokio::time::timeout_at(until.into(), hold(connection, reserve(&vehicles[number])));
                let Ok((used, held)) = attempt.await else { return sold };
                let Some(usable) = usable(used, held.is_err(), &target).await else { return sold };
                connection = usable;
                if held.is_ok_and(|answer| answer.status == 200) {
                    sold += 1;
                } else {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
            sold
        });
    }
    Ok(customers.join_all().await.into_iter().map(u64::from).sum())
}

/// The connection, or a new one if it broke.
async fn usable(connection: Connection, broke: bool, target: &Target) -> Option<Connection> {
    if broke { target.connect().await.ok() } else { Some(connection) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
