//! The relay: publishes what the outbox has, at least once and in order per key (I8), with any number of relays at work.
//!
//! A step leases shards, reads their oldest unpublished events, publishes them with no transaction open, and notes what
//! became of them under its fencing number. A failure blocks its key alone (I10). Never: a mark for an event whose
//! delivery was not reported good. Next: `store/outbox.rs` for the promises of the table, `store/leases.rs` for who holds
//! what.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{PublishError, Publisher};
use crate::{
    background::{RunReport, RunUntil},
    envelope::OutboxEvent,
    store::{Blocked, Leases, OutboxStore, Sent, StoreError},
    telemetry::{self, RelayCounts, spans},
};

/// How a relay works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// For how long a lease holds that is not renewed.
    pub lease_for: Duration,
    /// Events that one step takes at the most.
    pub batch: u32,
    /// How often in a row the event log may refuse an event until its key is parked.
    pub attempts_max: u32,
    /// How long a key waits after its first failure; twice as long after each that follows, with jitter.
    pub back_off_first: Duration,
    /// How long it waits at the most.
    pub back_off_max: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            lease_for: Duration::from_secs(10),
            batch: 4_096,
            attempts_max: 8,
            back_off_first: Duration::from_secs(1),
            back_off_max: Duration::from_secs(300),
        }
    }
}

/// After a commit, how long the relay waits for others that may follow it: they share its step.
const GATHER: Duration = Duration::from_millis(2);
/// Events of one key that one step takes at the most.
const OF_ONE_KEY_MAX: usize = 128;
/// How long a key waits whose part of the event log is away: longer than a publisher waits for it, so that the others are
/// not held up each time.
const PART_AWAY: Duration = Duration::from_secs(15);
/// How often it looks by itself, for what other processes have written and for keys whose time has come.
const POLL: Duration = Duration::from_millis(200);
/// How long it waits after the event log or the database failed: at first, and at the most.
const OUTAGE_FIRST: Duration = Duration::from_millis(100);
const OUTAGE_MAX: Duration = Duration::from_secs(5);
/// How long a step may go on when the process is told to stop. What it sent and did not mark is sent again by another.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Events that were read.
    pub claimed: u64,
    /// Events that are in the log and marked so.
    pub published: u64,
    /// Events that are in the log and whose mark was refused: another relay holds their shard now, and sends them again.
    pub refused: u64,
    /// Keys that failed, and wait.
    pub failed: u64,
    /// Keys that failed for the last time, and wait for somebody.
    pub parked: u64,
    /// How long the oldest event had waited when the step began, in milliseconds.
    pub lag_ms: u64,
    /// Why nothing could be published, where it was not for the events.
    pub outage: Option<String>,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// A step that failed because the database was unavailable.
const OUTAGE: RelayCounts = RelayCounts { published: 0, refused: 0, failed: 0, parked: 0, outage: true };

impl Step {
    fn counts(&self) -> RelayCounts {
        RelayCounts {
            published: self.published,
            refused: self.refused,
            failed: self.failed,
            parked: self.parked,
            outage: self.outage.is_some(),
        }
    }
}

/// What the steps of a run did, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Events that are in the log and marked so.
    pub published: u64,
    /// Events that are in the log and whose mark was refused: another relay sends them again.
    pub refused: u64,
    /// How often a key failed.
    pub failed: u64,
    /// Keys that were parked.
    pub parked: u64,
    /// The longest that an event had waited when it was read, in milliseconds.
    pub lag_ms: u64,
}

impl Relayed {
    fn add(&mut self, step: &Step) {
        self.published += step.published;
        self.refused += step.refused;
        self.failed += step.failed;
        self.parked += step.parked;
        self.lag_ms = self.lag_ms.max(step.lag_ms);
    }
}

/// What a relay holds, and since when at the latest.
struct Held {
    leases: Leases,
    since: Instant,
}

/// A relay. Its id is drawn anew in each process.
pub struct Relay {
    store: Arc<dyn OutboxStore>,
    publisher: Arc<dyn Publisher>,
    options: RelayOptions,
    id: Uuid,
    held: Option<Held>,
}

impl Relay {
    /// A relay that holds nothing yet.
    pub fn new(store: Arc<dyn OutboxStore>, publisher: Arc<dyn Publisher>, options: RelayOptions) -> Self {
        Self { store, publisher, options, id: Uuid::now_v7(), held: None }
    }

    /// Publishes the oldest events of the shards that it holds. Dropped half-way, what was sent is sent again.
    ///
    /// # Errors
    /// The database is away. What was sent and not marked is sent again.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let (fencing, shards) = self.hold().await?;
        if shards.is_empty() {
            return Ok(Step::default());
        }
        let waiting = self.store.unpublished(&shards, self.options.batch).await?;
        let claimed = waiting.events.len();
        let events = few_of_each_key(waiting.events);
        let Some(oldest) = events.first() else { return Ok(Step::default()) };
        let lag_ms = waiting.now.duration_since(oldest.created_at).as_millis();
        let mut step = Step {
            claimed: events.len() as u64,
            lag_ms: u64::try_from(lag_ms).unwrap_or(0),
            more: claimed == self.options.batch as usize || events.len() < claimed,
            ..Step::default()
        };
        crate::failpoint::reach("relay.claimed").await;
        let began = spans::now();
        let became = self.publish(&events).await;
        spans::published(events.iter().zip(became.iter().map(Result::is_ok)), began);
        crate::failpoint::reach("relay.published").await;
        let sent = self.judge(&events, became, &mut step);
        if !(sent.published.is_empty() && sent.blocked.is_empty()) {
            step.published = self.store.settle(self.id, fencing, &sent).await?;
            step.refused = (sent.published.len() as u64).saturating_sub(step.published);
        }
        if step.refused > 0 {
            // Somebody else holds what this relay took for its own: it asks again before it goes on.
            self.held = None;
        }
        Ok(step)
    }

    /// Gives up what it holds, so that others need not wait until its lease has run out.
    ///
    /// # Errors
    /// The database is away; the lease runs out by itself.
    pub async fn leave(&mut self) -> Result<(), StoreError> {
        self.held = None;
        self.store.leave(self.id).await
    }

    /// Takes or renews leases where a third of their time is over; the fencing number, and the shards.
    async fn hold(&mut self) -> Result<(u64, Vec<u8>), StoreError> {
        let held = match self.held.take() {
            Some(held) if held.since.elapsed() < self.options.lease_for / 3 => held,
            other => {
                let fencing = other.map(|held| held.leases.fencing);
                // Counted from before the question, so that it ends here no later than there.
                let since = Instant::now();
                Held { leases: self.store.lease(self.id, fencing, self.options.lease_for).await?, since }
            }
        };
        let holds = (held.leases.fencing, held.leases.shards.clone());
        self.held = Some(held);
        Ok(holds)
    }

    /// Publishes, and renews its leases meanwhile.
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let publisher = self.publisher.clone();
        let publishing = publisher.publish(events);
        tokio::pin!(publishing);
        let mut beat = tokio::time::interval(self.options.lease_for / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        let mut renewing = None;
        let became = loop {
            tokio::select! {
                became = &mut publishing => break became,
                // Both go on side by side: the publisher may hold what the renewal waits for.
                _ = beat.tick(), if renewing.is_none() => renewing = Some(Box::pin(self.renewed())),
                () = async { if let Some(renewing) = &mut renewing { renewing.await } }, if renewing.is_some() => {
                    renewing = None;
                }
            }
        };
        if let Some(renewing) = renewing {
            renewing.await;
        }
        became
    }

    /// Renews its leases. Where that fails they run out, and what is marked after that is refused.
    async fn renewed(&self) {
        let Some(held) = &self.held else { return };
        let fencing = Some(held.leases.fencing);
        let renewed = self.store.lease(self.id, fencing, self.options.lease_for).await;
        if let Err(error) = renewed {
            tracing::debug!(
                error = telemetry::chain(&error),
                "leases are not renewed while events are on their way"
            );
        }
    }

    /// What to note of a batch.
    fn judge(&self, events: &[OutboxEvent], became: Vec<Result<(), PublishError>>, step: &mut Step) -> Sent {
        debug_assert_eq!(events.len(), became.len());
        let mut sent = Sent::default();
        let mut unavailable = Vec::new();
        let (mut went_well, mut failed): (HashSet<&str>, HashSet<&str>) = Default::default();
        for (event, became) in events.iter().zip(became) {
            match became {
                Ok(()) => {
                    went_well.insert(&event.key);
                    sent.published.push((event.id, event.shard));
                    if event.blocked {
                        sent.unblocked.push((event.key.clone(), event.shard));
                    }
                }
                Err(PublishError::Rejected(reason)) if failed.insert(&event.key) => {
                    // What failed before was another event, where one of this key went well since.
                    let before = if went_well.contains(event.key.as_str()) { 0 } else { event.attempts };
                    sent.blocked.push(self.rejected(event, before, reason));
                }
                Err(PublishError::Unavailable(reason)) if failed.insert(&event.key) => {
                    unavailable.push((event, reason));
                }
                Err(_) => {}
            }
        }
        step.parked = sent.blocked.iter().filter(|blocked| blocked.retry_after.is_none()).count() as u64;
        step.failed = sent.blocked.len() as u64;
        if went_well.is_empty() {
            // The log as a whole is away: that is no key's fault, and nothing is written for it.
            step.outage = unavailable.first().map(|(_, reason)| reason.clone());
        }
        if went_well.is_empty() && !step.more {
            return sent;
        }
        // A part of the log is away (or so many wait that others may not have been read): its keys wait, so that the others
        // go on.
        step.failed += unavailable.len() as u64;
        sent.blocked.extend(unavailable.into_iter().map(|(event, reason)| Blocked {
            retry_after: Some(jittered(PART_AWAY)),
            ..blocked(event, reason)
        }));
        // A key that failed again stays blocked, whatever of it was published before.
        sent.unblocked.retain(|(key, _)| !failed.contains(key.as_str()));
        sent
    }

    /// An event that was refused, after it was refused so often `before`.
    fn rejected(&self, event: &OutboxEvent, before: u32, reason: String) -> Blocked {
        let attempts = before + 1;
        let doubled = 2_u32.saturating_pow(before.min(16));
        let wait = self.options.back_off_first.saturating_mul(doubled).min(self.options.back_off_max);
        let retry_after = (attempts < self.options.attempts_max).then(|| jittered(wait));
        let OutboxEvent { key, event_id, .. } = event;
        let trace_id = event.trace.map(|trace| trace.trace_id()).map(tracing::field::display);
        if retry_after.is_none() {
            tracing::error!(key, %event_id, trace_id, reason, attempts, "an event is refused again and again: its key is parked");
        } else {
            tracing::warn!(key, %event_id, trace_id, reason, attempts, "an event is refused: its key waits");
        }
        Blocked { attempts, retry_after, ..blocked(event, reason) }
    }

    /// Takes steps, and says what they did: at once while there is more to do, after commits that `woken` tells of, and now
    /// and then. At the end it gives up what it holds.
    pub async fn run(
        mut self,
        until: RunUntil,
        woken: Arc<Notify>,
        stop: CancellationToken,
    ) -> RunReport<Relayed> {
        let mut report = RunReport::<Relayed>::default();
        let mut outage: Option<Duration> = None;
        while !stop.is_cancelled() {
            let Some(stepped) = self.step_or_stop(&stop).await else {
                report.failure = Some("the last step took too long and was cut off".to_owned());
                break;
            };
            telemetry::count_relay_step(stepped.as_ref().map_or(OUTAGE, Step::counts));
            let away = match &stepped {
                Ok(step) => step.outage.clone(),
                Err(error) => Some(telemetry::chain(error)),
            };
            match (&away, outage) {
                (Some(reason), None) => {
                    tracing::error!(reason, "events cannot be published; they wait in the outbox");
                }
                (None, Some(_)) => tracing::info!("events are published again"),
                _ => {}
            }
            report.failure.clone_from(&away);
            if let Ok(step) = &stepped {
                report.total.add(step);
            }
            if away.is_some() {
                if until == RunUntil::Idle {
                    break;
                }
                let wait = outage.map_or(OUTAGE_FIRST, |wait| (2 * wait).min(OUTAGE_MAX));
                outage = Some(wait);
                pause(jittered(wait), &stop).await;
                continue;
            }
            outage = None;
            match stepped {
                Ok(step) if step.more => continue,
                // What it published may have been all that a key had room for.
                Ok(step) if until == RunUntil::Idle && step.published == 0 => break,
                Ok(_) if until == RunUntil::Idle => continue,
                _ => {}
            }
            tokio::select! {
                () = woken.notified() => tokio::time::sleep(GATHER).await,
                () = pause(POLL, &stop) => {}
            }
        }
        // Where it fails, the lease runs out.
        let _ = self.leave().await;
        report
    }

    /// A step; `None` where it was cut off because it took too long to stop.
    async fn step_or_stop(&mut self, stop: &CancellationToken) -> Option<Result<Step, StoreError>> {
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

/// The first events of each key: one key must not keep all others waiting, of which each sends one at a time.
fn few_of_each_key(mut events: Vec<OutboxEvent>) -> Vec<OutboxEvent> {
    let mut of_key: HashMap<String, usize> = HashMap::new();
    events.retain(|event| {
        let count = of_key.entry(event.key.clone()).or_default();
        *count += 1;
        *count <= OF_ONE_KEY_MAX
    });
    events
}

fn blocked(event: &OutboxEvent, reason: String) -> Blocked {
    Blocked {
        id: event.id,
        key: event.key.clone(),
        shard: event.shard,
        event_id: event.event_id,
        attempts: event.attempts,
        // The column is as long as anybody reads.
        reason: reason.chars().take(1_000).collect(),
        retry_after: None,
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Half of it to all of it, so that those who failed together do not come again together.
fn jittered(wait: Duration) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(fastrand::u64(micros / 2..=micros))
}
