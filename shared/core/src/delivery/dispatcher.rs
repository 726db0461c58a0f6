//! Who sends, and when: claims what is due, attempts it, records how it went.
//!
//! What is promised rests on the claims alone: any number of dispatchers may be at work, and one that dies or freezes costs
//! a second attempt, never a delivery. Next: [`Dispatcher::step`] for one round, [`Dispatcher::run`] for the loop.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Message, Received, Sender, schedule::next_attempt_in};
use crate::{
    background::{RunReport, RunUntil},
    engine::Timestamp,
    store::{
        FailureLog, StoreError, WebhookStore,
        webhooks::{Attempt, Claimed, Room, Then},
    },
    telemetry::{self},
    webhooks::{DeliveryId, EndpointId},
};

/// Why an endpoint is disabled that answered 410.
const GONE: &str = "it answered 410 Gone";

/// How a dispatcher works.
#[derive(Clone, Debug)]
pub struct DispatcherOptions {
    /// Attempts at the same time, at most.
    pub in_all: u32,
    /// Attempts at one endpoint at the same time, at most: a slow one does not hold up others.
    pub per_endpoint: u32,
    /// How long a claim lasts: longer than any attempt, by enough to record it.
    pub lease: Duration,
    /// How often it looks for what is due where nobody wakes it.
    pub poll: Duration,
    /// How long attempts under way may still take when it is told to stop.
    pub grace: Duration,
}

impl Default for DispatcherOptions {
    fn default() -> Self {
        Self {
            in_all: 64,
            per_endpoint: 8,
            lease: Duration::from_secs(45),
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(5),
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Deliveries that were claimed.
    pub claimed: usize,
    /// Attempts that were answered 2xx.
    pub delivered: usize,
    /// Attempts that failed and will be made again.
    pub failed: usize,
    /// Attempts that failed and were the last.
    pub given_up: usize,
    /// Attempts that came too late to count: another claim has taken over.
    pub superseded: u64,
    /// Endpoints that were disabled.
    pub disabled: u64,
}

impl std::ops::AddAssign for Step {
    fn add_assign(&mut self, other: Self) {
        self.claimed += other.claimed;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.given_up += other.given_up;
        self.superseded += other.superseded;
        self.disabled += other.disabled;
    }
}

/// What is attempted now.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    delivery: DeliveryId,
    claim: i64,
    endpoint: EndpointId,
}

/// The task that delivers.
pub struct Dispatcher {
    store: Arc<dyn WebhookStore>,
    sender: Arc<Sender>,
    options: DispatcherOptions,
    tasks: JoinSet<Attempt>,
    under_way: HashMap<Id, UnderWay>,
    /// Attempts that ended and are not recorded yet.
    ended: Vec<Attempt>,
    failures: FailureLog,
}

impl Dispatcher {
    /// One that has nothing under way.
    pub fn new(store: Arc<dyn WebhookStore>, sender: Arc<Sender>, options: DispatcherOptions) -> Self {
        Self {
            store,
            sender,
            options,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            ended: Vec::new(),
            failures: FailureLog::default(),
        }
    }

    /// One round: claims what is due and there is room for, makes these attempts, records how they ended. Not cancel-safe:
    /// what it leaves comes again once its claims have run out.
    ///
    /// # Errors
    /// The database is away; the round may be made again.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let claimed = self.claim().await?;
        while let Some(joined) = self.tasks.join_next_with_id().await {
            self.note(joined);
        }
        Ok(Step { claimed, ..self.record().await? })
    }

    /// Delivers, and says what it did: at once when it is woken, else by and by. At the end attempts under way have a while
    /// to end, and the claims of those that do not are given back. Failures are logged here.
    pub async fn run(
        mut self,
        until: RunUntil,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> RunReport<Step> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            let turn = self.turn(&mut report.total).await;
            self.failures.observe(&turn);
            report.failure = turn.as_ref().err().map(|error| telemetry::chain(error));
            let over = self.under_way.is_empty() && matches!(turn, Ok(0));
            if until == RunUntil::Idle && (over || turn.is_err()) {
                break;
            }
            let pause = match &turn {
                Ok(0) | Err(_) => self.options.poll,
                // There may be more.
                Ok(_) => Duration::ZERO,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(joined) = self.tasks.join_next_with_id() => self.note(joined),
                // Where the database is away there is no use in being woken.
                () = wake.notified(), if turn.is_ok() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.wind_up(&mut report.total).await {
            report.failure = Some(telemetry::chain(&error));
        }
        report
    }

    /// Records what has ended, and begins what is due; says how much of that there was.
    async fn turn(&mut self, did: &mut Step) -> Result<usize, StoreError> {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.note(joined);
        }
        *did += self.record().await?;
        let claimed = self.claim().await?;
        did.claimed += claimed;
        Ok(claimed)
    }

    /// Claims what is due and there is room for, and begins to attempt it; says how many that are.
    async fn claim(&mut self) -> Result<usize, StoreError> {
        let room = self.room();
        if room.in_all == 0 {
            return Ok(0);
        }
        let claims = self.store.claim_deliveries(&room, self.options.lease).await?;
        let claimed = claims.len();
        for claim in claims {
            let under_way =
                UnderWay { delivery: claim.delivery, claim: claim.claim, endpoint: claim.to.endpoint };
            let task = self.tasks.spawn(attempt(self.sender.clone(), claim));
            self.under_way.insert(task.id(), under_way);
        }
        Ok(claimed)
    }

    /// What there is room for. Attempts that are not recorded yet take room as well, so that there are never many.
    fn room(&self) -> Room {
        let mut under_way = HashMap::new();
        let begun = self.under_way.values().map(|attempt| attempt.endpoint);
        for endpoint in begun.chain(self.ended.iter().map(|attempt| attempt.endpoint)) {
            *under_way.entry(endpoint).or_insert(0) += 1;
        }
        let taken: u32 = under_way.values().sum();
        let in_all = self.options.in_all.saturating_sub(taken);
        Room { in_all, per_endpoint: self.options.per_endpoint, under_way }
    }

    /// Notes that an attempt ended. One that panicked comes again once its claim has run out.
    fn note(&mut self, joined: Result<(Id, Attempt), JoinError>) {
        match joined {
            Ok((task, attempt)) => {
                self.under_way.remove(&task);
                self.ended.push(attempt);
            }
            // It was told to end, so its claim is to be given back.
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                self.under_way.remove(&error.id());
                tracing::error!("an attempt to deliver a webhook panicked");
            }
        }
    }

    /// Records how attempts ended. Where that fails, they are kept and recorded later.
    async fn record(&mut self) -> Result<Step, StoreError> {
        let mut step = Step::default();
        if self.ended.is_empty() {
            return Ok(step);
        }
        let recorded = self.store.record_attempts(&self.ended).await?;
        for attempt in std::mem::take(&mut self.ended) {
            let result = match attempt.then {
                Then::Delivered => ("delivered", &mut step.delivered),
                Then::Again { .. } => ("failed", &mut step.failed),
                Then::GivenUp => ("given_up", &mut step.given_up),
            };
            *result.1 += 1;
            telemetry::count_webhook(result.0);
            log(&attempt);
        }
        let attempts = step.delivered + step.failed + step.given_up;
        step.superseded = (attempts as u64).saturating_sub(recorded.recorded);
        step.disabled = recorded.disabled;
        Ok(step)
    }

    async fn wind_up(mut self, did: &mut Step) -> Result<(), StoreError> {
        let end = tokio::time::sleep(self.options.grace);
        tokio::pin!(end);
        loop {
            tokio::select! {
                joined = self.tasks.join_next_with_id() => match joined {
                    Some(joined) => self.note(joined),
                    None => break,
                },
                () = &mut end => break,
            }
        }
        self.tasks.abort_all();
        while let Some(joined) = self.tasks.join_next_with_id().await {
            self.note(joined);
        }
        let recorded = self.record().await;
        self.failures.observe(&recorded);
        let left: Vec<_> = self.under_way.values().map(|attempt| (attempt.delivery, attempt.claim)).collect();
        // Where that fails they come again once their claims have run out.
        let given_back = self.store.give_back(&left).await;
        self.failures.observe(&given_back);
        *did += recorded?;
        given_back.map(drop)
    }
}

async fn attempt(sender: Arc<Sender>, claim: Claimed) -> Attempt {
    let started = Instant::now();
    let message = Message { id: claim.event_id, body: claim.payload, trace: claim.trace };
    let received = sender.send(&claim.to, &message, Timestamp::now()).await;
    telemetry::observe_webhook_attempt(started.elapsed());
    let attempts = claim.attempts.saturating_add(1);
    Attempt {
        delivery: claim.delivery,
        claim: claim.claim,
        endpoint: claim.to.endpoint,
        error: received.failure(),
        then: then(&received, attempts, fastrand::f64()),
        disables: matches!(received, Received::Answer { status: 410, .. }).then_some(GONE),
        status: match received {
            Received::Answer { status, .. } => Some(status),
            Received::Nothing { .. } => None,
        },
    }
}

/// What comes after so many attempts, of which this was the last. `random` is from 0 to 1.
fn then(received: &Received, attempts: u32, random: f64) -> Then {
    if received.is_success() {
        return Then::Delivered;
    }
    let asked = match received {
        Received::Answer { retry_after, .. } => *retry_after,
        Received::Nothing { .. } => None,
    };
    next_attempt_in(attempts, random, asked).map_or(Then::GivenUp, |after| Then::Again { after })
}

/// An attempt that failed comes again, and the list of deliveries says why it failed. What somebody must look at is logged.
fn log(attempt: &Attempt) {
    let (endpoint, delivery) = (attempt.endpoint, attempt.delivery);
    let reason = attempt.error.as_deref().unwrap_or_default();
    if attempt.then == Then::GivenUp {
        tracing::warn!(%endpoint, %delivery, reason, "a webhook delivery is given up");
    }
    if attempt.disables.is_some() {
        tracing::warn!(%endpoint, reason, "a webhook endpoint asked to be told no more, and is disabled");
    }
}
