//! Ends holds on time when nobody asks for their units: the timer beside expiry on demand.
//!
//! A step expires what is due and says when to come back; the loop around it sleeps until then. It looks again at least
//! every [`LOOK_AGAIN`], which is shorter than the shortest TTL, so it sees the holds of other processes before they are
//! due, and a lone hold is expired within milliseconds of its time.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Accepted, Change, Command},
    lanes::{Dispatch, DispatchError},
    store::Store,
    telemetry,
};

/// Half of the shortest TTL ([`crate::engine::Ttl`] is at least a second).
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Holds per step: they share the lanes with customers.
const HOLDS_PER_STEP: u32 = 256;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Holds that it expired.
    pub expired: u64,
    /// When to take the next.
    pub next_in: Duration,
}

/// The timer.
pub struct Expiry {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
}

impl Expiry {
    /// A timer over a store, whose expiries go the way of all commands.
    pub fn new(store: Arc<dyn Store>, dispatch: Arc<Dispatch>) -> Self {
        Self { store, dispatch }
    }

    /// Expires holds that are due.
    ///
    /// # Errors
    /// The store cannot be read, or a command failed in it.
    pub async fn step(&self) -> Result<Step, DispatchError> {
        let due = self.store.due(HOLDS_PER_STEP).await?;
        let mut commands = JoinSet::new();
        for token in due.tokens {
            let dispatch = self.dispatch.clone();
            commands.spawn(async move { dispatch.submit(Command::Expire(token)).await });
        }
        let mut expired = 0;
        let mut failed = None;
        while let Some(outcome) = commands.join_next().await {
            match outcome.unwrap_or(Err(DispatchError::Panicked)) {
                Ok(Ok(Accepted::Reservation { change: Change::Changed, .. })) => expired += 1,
                // Somebody else was first: that is what it means to be one of several.
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        telemetry::count_expired("timer", expired);
        if let Some(error) = failed {
            return Err(error);
        }
        let until_next = due.next.map_or(LOOK_AGAIN, |next| {
            Duration::try_from(next.duration_since(due.now)).unwrap_or(Duration::ZERO)
        });
        Ok(Step { expired, next_in: until_next.min(LOOK_AGAIN) })
    }

    /// Takes steps until told to stop. A failure is logged once, when it begins, and retried.
    pub async fn run(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let next_in = match self.step().await {
                Ok(step) => {
                    if failing {
                        tracing::info!("holds are expired on time again");
                    }
                    failing = false;
                    step.next_in
                }
                Err(DispatchError::Stopping) => return,
                Err(error) => {
                    if !failing {
                        let error: &(dyn std::error::Error + 'static) = &error;
                        tracing::error!(error, "due holds cannot be expired; trying on");
                    }
                    failing = true;
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(next_in) => {}
            }
        }
    }
}
