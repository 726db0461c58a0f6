//! Dead letters of a queue: none are kept here. A message that is no event is reported as failed, and after as many attempts
//! as the queue allows it lies in the queue's own redrive queue.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bespeak::{
    envelope::Record,
    events::dead_letter::{DeadLetterError, DeadLetterSink},
    store::DeadLetter,
};

/// What was returned of a batch.
#[derive(Default)]
pub(crate) struct Redrive(Mutex<Vec<Record>>);

impl Redrive {
    /// Takes the records that were returned.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl DeadLetterSink for Redrive {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let mut returned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        returned.extend(letters.iter().map(|letter| letter.record.clone()));
        Ok(())
    }
}
