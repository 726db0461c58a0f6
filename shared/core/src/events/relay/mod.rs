//! The relay: publishes the outbox to the event log, at least once and in order per key (I8). Any number of relays
//! may run.
//!
//! A step leases shards, reads their oldest unpublished events, publishes them with no transaction open, and records
//! the results under its fencing number. A failure blocks only the key of its event (I10). Never: a mark for an event
//! that the log has not acknowledged. Next: `results.rs` for what a step records, `store/outbox.rs` for the promises
//! of the table, `store/shards.rs` for which relay holds which shard.

mod options;
mod reader;
mod report;
mod results;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use options::RelayOptions;
pub use report::{RelayStep, RelayTotals};

use super::{PublishError, Publisher};
use crate::{
    background::{RunReport, RunUntil},
    envelope::OutboxEvent,
    store::{Leases, OutboxStore, StoreError},
    telemetry::{self, spans},
};
use reader::{Batch, Reader};
use report::OUTAGE;
use results::results_to_record;

/// The wait after a commit for others that may follow it, so that they share its step.
const GATHER: Duration = Duration::from_millis(2);
/// The longest time between two steps, for events that other processes have written and for keys whose back-off is
/// over.
const POLL: Duration = Duration::from_millis(200);
/// The first and the longest back-off after an outage of the event log or the database.
const OUTAGE_FIRST: Duration = Duration::from_millis(100);
const OUTAGE_MAX: Duration = Duration::from_secs(5);
/// The time that a step may still take when the process shuts down. Another relay sends again what the step sent and
/// did not mark.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The leases that a relay holds.
struct HeldLeases {
    leases: Leases,
    /// An instant no later than the one at which the database granted them.
    since: Instant,
}

/// A relay. Each has an id of its own.
pub struct Relay {
    store: Arc<dyn OutboxStore>,
    publisher: Arc<dyn Publisher>,
    options: RelayOptions,
    id: Uuid,
    held: Option<HeldLeases>,
    reader: Reader,
}

impl Relay {
    /// A relay that holds no leases yet.
    pub fn new(store: Arc<dyn OutboxStore>, publisher: Arc<dyn Publisher>, options: RelayOptions) -> Self {
        Self { store, publisher, options, id: Uuid::now_v7(), held: None, reader: Reader::default() }
    }

    /// Publishes the oldest events of the shards that this relay holds. If the future is dropped, events that were
    /// sent and not marked are sent again later.
    ///
    /// # Errors
    /// The database is unavailable. Events that were sent and not marked are sent again.
    pub async fn step(&mut self) -> Result<RelayStep, StoreError> {
        let (fencing, shards) = self.ensure_leases().await?;
        if shards.is_empty() {
            return Ok(RelayStep::default());
        }
        let read = self.reader.read(&*self.store, &*self.publisher, &shards, &self.options);
        let Batch { now, events, more } = read.await?;
        let Some(oldest) = events.iter().map(|event| event.created_at).min() else {
            return Ok(RelayStep { more, ..RelayStep::default() });
        };
        let lag_ms = now.duration_since(oldest).as_millis();
        let mut step = RelayStep {
            claimed: events.len() as u64,
            lag_ms: u64::try_from(lag_ms).unwrap_or(0),
            more,
            ..RelayStep::default()
        };
        crate::failpoint::reach("relay.claimed").await;
        let began = spans::now();
        let results = self.publish(&events).await;
        spans::published(events.iter().zip(results.iter().map(Result::is_ok)), began);
        crate::failpoint::reach("relay.published").await;
        let sent = results_to_record(&self.options, &events, results, &mut step);
        if !(sent.published.is_empty() && sent.blocked.is_empty()) {
            step.published = self.store.record_results(self.id, fencing, &sent).await?;
            step.refused = (sent.published.len() as u64).saturating_sub(step.published);
        }
        if step.refused > 0 {
            // Another relay holds a shard that this one believed to hold, so the next step must ask the database first.
            self.held = None;
        }
        Ok(step)
    }

    /// Releases the leases, so that other relays need not wait until they expire.
    ///
    /// # Errors
    /// The database is unavailable; the leases expire by themselves.
    pub async fn leave(&mut self) -> Result<(), StoreError> {
        self.held = None;
        self.store.leave(self.id).await
    }

    /// Takes leases, or renews them if a third of their time is over. Returns the fencing number and the shards.
    async fn ensure_leases(&mut self) -> Result<(u64, Vec<u8>), StoreError> {
        let held = match self.held.take() {
            Some(held) if held.since.elapsed() < self.options.lease_for / 3 => held,
            other => {
                let fencing = other.map(|held| held.leases.fencing);
                // Measured before the call: the database starts its clock later, so a lease never ends there earlier
                // than this process believes.
                let since = Instant::now();
                HeldLeases {
                    leases: self.store.lease(self.id, fencing, self.options.lease_for).await?,
                    since,
                }
            }
        };
        let holds = (held.leases.fencing, held.leases.shards.clone());
        self.held = Some(held);
        Ok(holds)
    }

    /// Publishes events, and renews the leases while the publisher works.
    ///
    /// A slow log can take longer than a lease lasts. Two futures therefore run side by side: `publishing`, which is
    /// polled by reference and thus never dropped before it is complete, and at most one `renewal`. The renewal must
    /// not be awaited inside the branch of the timer: while it waited, `publishing` would not be polled, and the
    /// renewal may wait for something that the publisher holds, such as SQLite's only writer, which the embedded
    /// consumer uses. Both would then wait forever.
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let publisher = self.publisher.clone();
        let publishing = publisher.publish(events);
        tokio::pin!(publishing);
        let mut renew_at = tokio::time::interval(self.options.lease_for / 3);
        // After a pause of the process one late renewal is enough; a burst of missed ones would be useless.
        renew_at.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of an interval is immediate.
        renew_at.tick().await;
        let mut renewal = None;
        let results = loop {
            tokio::select! {
                results = &mut publishing => break results,
                _ = renew_at.tick(), if renewal.is_none() => renewal = Some(Box::pin(self.renew_leases())),
                () = async { if let Some(renewal) = &mut renewal { renewal.await } }, if renewal.is_some() => {
                    renewal = None;
                }
            }
        };
        // A renewal is a transaction that is not cancel-safe, so one that has begun is completed.
        if let Some(renewal) = renewal {
            renewal.await;
        }
        results
    }

    /// Renews the leases. If that fails they expire, and the database refuses the marks that come after.
    async fn renew_leases(&self) {
        let Some(held) = &self.held else { return };
        let fencing = Some(held.leases.fencing);
        let renewed = self.store.lease(self.id, fencing, self.options.lease_for).await;
        if let Err(error) = renewed {
            tracing::debug!(
                error = telemetry::chain(&error),
                "the leases cannot be renewed while events are being published"
            );
        }
    }

    /// Takes steps until `until` or `stop` ends the run, and returns their totals. A step follows at once while there
    /// is more to publish, else after a commit that `woken` announces, else after a while. Releases the leases at the
    /// end.
    pub async fn run(
        mut self,
        until: RunUntil,
        woken: Arc<Notify>,
        stop: CancellationToken,
    ) -> RunReport<RelayTotals> {
        let mut report = RunReport::<RelayTotals>::default();
        // The current back-off, while there is an outage. An outage is logged when it begins and when it ends, not
        // per step.
        let mut back_off: Option<Duration> = None;
        while !stop.is_cancelled() {
            let Some(result) = self.step_or_stop(&stop).await else {
                report.failure = Some("the last step took too long and was cut off".to_owned());
                break;
            };
            telemetry::count_relay_step(result.as_ref().map_or(OUTAGE, RelayStep::counts));
            // Both kinds of outage end here: the log's, which a step reports, and the database's, which is its error.
            let outage = match &result {
                Ok(step) => step.outage.clone(),
                Err(error) => Some(telemetry::chain(error)),
            };
            log_change(outage.as_deref(), back_off.is_some());
            report.failure.clone_from(&outage);
            if let Ok(step) = &result {
                report.total.add(step);
            }
            if outage.is_some() {
                if until == RunUntil::Idle {
                    break;
                }
                let wait = back_off.map_or(OUTAGE_FIRST, |wait| (2 * wait).min(OUTAGE_MAX));
                back_off = Some(wait);
                pause(jittered(wait), &stop).await;
                continue;
            }
            back_off = None;
            match result {
                Ok(step) if step.more => continue,
                // A step takes a limited number of events per key, so the relay is idle only after one that published
                // nothing.
                Ok(step) if until == RunUntil::Idle && step.published == 0 => break,
                Ok(_) if until == RunUntil::Idle => continue,
                _ => {}
            }
            tokio::select! {
                () = woken.notified() => tokio::time::sleep(GATHER).await,
                () = pause(POLL, &stop) => {}
            }
        }
        // If this fails, the leases expire by themselves.
        let _ = self.leave().await;
        report
    }

    /// Takes a step; `None` if it was cut off because the process shuts down and the step took too long.
    async fn step_or_stop(&mut self, stop: &CancellationToken) -> Option<Result<RelayStep, StoreError>> {
        let cut_off = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_WITHIN).await;
        };
        tokio::select! {
            step = self.step() => Some(step),
            () = cut_off => None,
        }
    }
}

/// Logs the beginning and the end of an outage.
fn log_change(outage: Option<&str>, was_out: bool) {
    match (outage, was_out) {
        (Some(reason), false) => {
            tracing::error!(reason, "events cannot be published; they wait in the outbox");
        }
        (None, true) => tracing::info!("events are published again"),
        _ => {}
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Half of a duration to all of it, at random, so that those that failed together do not retry together.
fn jittered(wait: Duration) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(fastrand::u64(micros / 2..=micros))
}
