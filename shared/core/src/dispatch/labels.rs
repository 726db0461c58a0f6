//! The labels of metrics for the results of commands.

use super::error::DispatchError;
use crate::engine::{Accepted, Change, Outcome};

/// The label of metrics for the result of a command.
pub(super) fn label(outcome: &Result<Outcome, DispatchError>) -> &'static str {
    match outcome {
        Ok(outcome) => outcome_label(outcome),
        Err(DispatchError::Full) => "overloaded",
        Err(DispatchError::Stopping) => "stopping",
        Err(DispatchError::Lock(_)) => "locked",
        Err(DispatchError::Store(_) | DispatchError::Panicked) => "failed",
    }
}

pub(super) fn outcome_label(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Accepted::Reservation { change: Change::Replayed, .. }) => "replayed",
        Ok(_) => "accepted",
        Err(refusal) => refusal.slug(),
    }
}
