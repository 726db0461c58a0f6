//! The dead letters of a queue: the function keeps none itself. It reports a message that cannot be applied as failed, and
//! after as many attempts as the queue allows, SQS moves the message to the dead-letter queue of its redrive policy.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bespeak::{
    envelope::Record,
    events::dead_letter::{DeadLetterError, DeadLetterSink},
    store::DeadLetter,
};

/// A sink that collects the records of a batch which cannot be applied, so that they are reported as failed.
#[derive(Default)]
pub(crate) struct Redrive(Mutex<Vec<Record>>);

impl Redrive {
    /// Takes the collected records.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl DeadLetterSink for Redrive {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.extend(letters.iter().map(|letter| letter.record.clone()));
        Ok(())
    }
}
