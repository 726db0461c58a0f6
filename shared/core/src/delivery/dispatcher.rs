//! The dispatcher: claims deliveries that are due, attempts them, and records the results.
//!
//! The promises rest on the claims alone. Any number of dispatchers may run, and one that dies or freezes costs a
//! second attempt, never a delivery. Next: [`Dispatcher::step`] for one round, [`Dispatcher::run`] for the loop.

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
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, Claimed},
    },
    telemetry,
    webhooks::{DeliveryId, EndpointId, Observation, Sign, WebhookLimits},
};

/// The most endpoints that have a slot of their own, so that memory is bounded however many endpoints there are.
const IDLE_MAX: u32 = 1_024;
/// The most endpoints whose windows are remembered.
const WINDOWS_MAX: usize = 16_384;

/// The limits and intervals of a dispatcher.
#[derive(Clone, Debug)]
pub struct DispatcherOptions {
    /// The most attempts at the same time, apart from the first one of each endpoint, which has a slot of its own.
    pub in_all: u32,
    /// The most attempts at the same time for one endpoint.
    pub per_endpoint: u32,
    /// The attempts at the same time for an endpoint whose receiver is not known yet. The number doubles with each
    /// success, and falls to one with a failure.
    pub per_endpoint_at_first: u32,
    /// The duration of a claim: longer than any attempt, by enough to record its result.
    pub lease: Duration,
    /// The interval between searches for due deliveries if the dispatcher is not woken.
    pub poll: Duration,
    /// The interval between reviews of the endpoints that have too many deliveries pending.
    pub review: Duration,
    /// The time that attempts in flight may still take when the dispatcher shuts down.
    pub grace: Duration,
    /// The limits of endpoints.
    pub limits: WebhookLimits,
}

impl Default for DispatcherOptions {
    fn default() -> Self {
        Self {
            in_all: 128,
            per_endpoint: 8,
            per_endpoint_at_first: 2,
            lease: Duration::from_secs(45),
            poll: Duration::from_secs(1),
            review: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            limits: WebhookLimits::default(),
        }
    }
}

/// The counts of a step or of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStep {
    /// Deliveries that were claimed.
    pub claimed: usize,
    /// Attempts that succeeded.
    pub delivered: usize,
    /// Attempts that failed and will be retried.
    pub failed: usize,
    /// Attempts that failed and were the last of their delivery.
    pub given_up: usize,
    /// Attempts whose result was ignored, because another dispatcher had claimed the delivery meanwhile.
    pub superseded: u64,
    /// Endpoints that were disabled.
    pub disabled: u64,
}

impl std::ops::AddAssign for DeliveryStep {
    fn add_assign(&mut self, other: Self) {
        self.claimed += other.claimed;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.given_up += other.given_up;
        self.superseded += other.superseded;
        self.disabled += other.disabled;
    }
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct InFlightAttempt {
    delivery: DeliveryId,
    claim: i64,
    endpoint: EndpointId,
}

/// A task that delivers webhooks.
pub struct Dispatcher {
    store: Arc<dyn WebhookStore>,
    sender: Arc<Sender>,
    options: DispatcherOptions,
    tasks: JoinSet<Attempt>,
    in_flight: HashMap<Id, InFlightAttempt>,
    /// Attempts that ended and whose results are not recorded yet.
    ended: Vec<Attempt>,
    /// The attempts at the same time that the receiver of an endpoint is trusted with.
    windows: HashMap<EndpointId, u32>,
    reviewed: Option<Instant>,
    failures: FailureLog,
}

impl Dispatcher {
    /// A dispatcher without attempts in flight.
    pub fn new(store: Arc<dyn WebhookStore>, sender: Arc<Sender>, options: DispatcherOptions) -> Self {
        Self {
            store,
            sender,
            options,
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            ended: Vec::new(),
            windows: HashMap::new(),
            reviewed: None,
            failures: FailureLog::default(),
        }
    }

    /// Makes one round: claims due deliveries, attempts them, records the results. Not cancel-safe: deliveries of a
    /// cancelled round are attempted again once their claims have expired.
    ///
    /// # Errors
    /// The database is unavailable; the round may be retried.
    pub async fn step(&mut self) -> Result<DeliveryStep, StoreError> {
        let claimed = self.claim().await?;
        while let Some(joined) = self.tasks.join_next_with_id().await {
            self.collect(joined);
        }
        Ok(DeliveryStep { claimed, ..self.record().await? })
    }

    /// Delivers until `until` or `stop` ends the run, and returns the totals. Claims due deliveries at once when
    /// `wake` is notified, else at intervals. At the end, attempts in flight have a grace period; the claims of those
    /// that do not end in it are released. Failures are logged here.
    pub async fn run(
        mut self,
        until: RunUntil,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> RunReport<DeliveryStep> {
        let mut report = RunReport::default();
        while !stop.is_cancelled() {
            self.review().await;
            let turn = self.claim_and_record(&mut report.total).await;
            self.failures.observe(&turn);
            report.failure = turn.as_ref().err().map(|error| telemetry::chain(error));
            let over = self.in_flight.is_empty() && matches!(turn, Ok(0));
            if until == RunUntil::Idle && (over || turn.is_err()) {
                break;
            }
            let pause = match &turn {
                Ok(0) | Err(_) => self.options.poll,
                // More deliveries may be due.
                Ok(_) => Duration::ZERO,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(joined) = self.tasks.join_next_with_id() => self.collect(joined),
                // While the database is unavailable, waking up early is useless.
                () = wake.notified(), if turn.is_ok() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.drain(&mut report.total).await {
            report.failure = Some(telemetry::chain(&error));
        }
        report
    }

    /// Records the attempts that have ended and claims due deliveries. Returns the number of claims.
    async fn claim_and_record(&mut self, did: &mut DeliveryStep) -> Result<usize, StoreError> {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.collect(joined);
        }
        *did += self.record().await?;
        let claimed = self.claim().await?;
        did.claimed += claimed;
        Ok(claimed)
    }

    /// Notes which endpoints have too many deliveries pending, from time to time. A failure is repeated by the next
    /// statement, which reports it.
    async fn review(&mut self) {
        if self.reviewed.is_none_or(|at| at.elapsed() >= self.options.review) {
            self.reviewed = Some(Instant::now());
            if let Ok(full) = self.store.review_endpoints(self.options.limits.pending_max).await {
                telemetry::set_webhook_endpoints_full(full);
            }
        }
    }

    /// Claims due deliveries within the free capacity, and starts to attempt them. Returns their number.
    async fn claim(&mut self) -> Result<usize, StoreError> {
        let capacity = self.capacity();
        let claims = self.store.claim_deliveries(&capacity, self.options.lease).await?;
        let claimed = claims.len();
        for claim in claims {
            let in_flight =
                InFlightAttempt { delivery: claim.delivery, claim: claim.claim, endpoint: claim.to.endpoint };
            let task = self.tasks.spawn(attempt(self.sender.clone(), claim));
            self.in_flight.insert(task.id(), in_flight);
        }
        Ok(claimed)
    }

    /// The free capacity. The first attempt of an endpoint has a slot of its own, so receivers that hang never take the
    /// slot of another. Attempts whose results are not recorded yet take part of the capacity as well, which bounds
    /// their number during an outage of the database.
    fn capacity(&self) -> ClaimCapacity {
        let mut in_flight: HashMap<EndpointId, u32> = HashMap::new();
        let begun = self.in_flight.values().map(|attempt| attempt.endpoint);
        for endpoint in begun.chain(self.ended.iter().map(|attempt| attempt.endpoint)) {
            *in_flight.entry(endpoint).or_insert(0) += 1;
        }
        let taken: u32 = in_flight.values().map(|count| count.saturating_sub(1)).sum();
        let busy = u32::try_from(in_flight.len()).unwrap_or(u32::MAX);
        ClaimCapacity {
            in_all: self.options.in_all.saturating_sub(taken),
            per_endpoint: self.options.per_endpoint,
            at_first: self.options.per_endpoint_at_first,
            windows: self.windows.clone(),
            under_way: in_flight,
            idle: IDLE_MAX.saturating_sub(busy),
        }
    }

    /// Learns from a result how many attempts at the same time the receiver can take.
    fn adapt(&mut self, attempt: &Attempt) {
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.clear();
        }
        let window = self.windows.entry(attempt.endpoint).or_insert(self.options.per_endpoint_at_first);
        *window = match attempt.observed.sign {
            Sign::Delivered | Sign::Refused => window.saturating_mul(2).min(self.options.per_endpoint),
            Sign::Failed | Sign::Gone => 1,
        };
    }

    /// Collects the result of an attempt that ended. A delivery whose attempt panicked is attempted again once its
    /// claim has expired.
    fn collect(&mut self, joined: Result<(Id, Attempt), JoinError>) {
        match joined {
            Ok((task, attempt)) => {
                self.in_flight.remove(&task);
                self.adapt(&attempt);
                self.ended.push(attempt);
            }
            // The attempt was aborted at shutdown. It stays in flight, so that its claim is released.
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                self.in_flight.remove(&error.id());
                tracing::error!("an attempt to deliver a webhook panicked");
            }
        }
    }

    /// Records the results of attempts. If that fails, the results are kept and recorded later.
    async fn record(&mut self) -> Result<DeliveryStep, StoreError> {
        let mut step = DeliveryStep::default();
        if self.ended.is_empty() {
            return Ok(step);
        }
        let disable_after = self.options.limits.disable_after;
        let recorded = self.store.record_attempts(&self.ended, disable_after).await?;
        for attempt in std::mem::take(&mut self.ended) {
            let result = match attempt.outcome {
                AttemptOutcome::Delivered => ("delivered", &mut step.delivered),
                AttemptOutcome::Retry { .. } => ("failed", &mut step.failed),
                AttemptOutcome::GivenUp => ("given_up", &mut step.given_up),
            };
            *result.1 += 1;
            telemetry::count_webhook(result.0);
            log(&attempt);
        }
        let attempts = step.delivered + step.failed + step.given_up;
        step.superseded = (attempts as u64).saturating_sub(recorded.recorded);
        step.disabled = recorded.disabled.len() as u64;
        for endpoint in recorded.opened {
            telemetry::count_webhook_circuit_opened();
            tracing::warn!(%endpoint, "a webhook endpoint fails: its circuit is open, and its deliveries wait");
        }
        for (endpoint, reason) in recorded.disabled {
            telemetry::count_webhook_endpoint_disabled();
            tracing::error!(%endpoint, reason, "a webhook endpoint is disabled; its events are kept");
        }
        Ok(step)
    }

    /// Gives attempts in flight their grace period, records their results, and releases the claims of the others.
    async fn drain(mut self, did: &mut DeliveryStep) -> Result<(), StoreError> {
        let end = tokio::time::sleep(self.options.grace);
        tokio::pin!(end);
        loop {
            tokio::select! {
                joined = self.tasks.join_next_with_id() => match joined {
                    Some(joined) => self.collect(joined),
                    None => break,
                },
                () = &mut end => break,
            }
        }
        self.tasks.abort_all();
        while let Some(joined) = self.tasks.join_next_with_id().await {
            self.collect(joined);
        }
        let recorded = self.record().await;
        self.failures.observe(&recorded);
        let unfinished: Vec<_> =
            self.in_flight.values().map(|attempt| (attempt.delivery, attempt.claim)).collect();
        // If this fails, the deliveries are attempted again once their claims have expired.
        let given_back = self.store.give_back(&unfinished).await;
        self.failures.observe(&given_back);
        *did += recorded?;
        given_back.map(drop)
    }
}

/// Makes one attempt, and decides what follows from its result.
async fn attempt(sender: Arc<Sender>, claim: Claimed) -> Attempt {
    let started = Instant::now();
    let message = Message { id: claim.event_id, body: claim.payload, trace: claim.trace };
    let received = sender.send(&claim.to, &message, Timestamp::now()).await;
    telemetry::observe_webhook_attempt(started.elapsed());
    let attempts = claim.attempts.saturating_add(1);
    let observed = Observation { sign: received.sign(), is_probe: claim.is_probe, random: fastrand::f64() };
    Attempt {
        delivery: claim.delivery,
        claim: claim.claim,
        endpoint: claim.to.endpoint,
        error: received.failure(),
        outcome: outcome_of(&received, attempts, fastrand::f64()),
        observed,
        was_healthy: claim.is_healthy,
        status: match received {
            Received::Answer { status, .. } => Some(status),
            Received::Nothing { .. } => None,
        },
    }
}

/// The next state of a delivery after `attempts` attempts, of which `received` is the last result. `random` is from 0
/// to 1.
fn outcome_of(received: &Received, attempts: u32, random: f64) -> AttemptOutcome {
    if received.is_success() {
        return AttemptOutcome::Delivered;
    }
    let requested = match received {
        Received::Answer { retry_after, .. } => *retry_after,
        Received::Nothing { .. } => None,
    };
    next_attempt_in(attempts, random, requested)
        .map_or(AttemptOutcome::GivenUp, |after| AttemptOutcome::Retry { after })
}

/// Logs results that an operator may want to act on. A failure that will be retried is only shown in the list of
/// deliveries.
fn log(attempt: &Attempt) {
    let (endpoint, delivery) = (attempt.endpoint, attempt.delivery);
    let reason = attempt.error.as_deref().unwrap_or_default();
    if attempt.outcome == AttemptOutcome::GivenUp {
        tracing::warn!(%endpoint, %delivery, reason, "a webhook delivery is given up");
    }
}
