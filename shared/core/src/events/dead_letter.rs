//! Records that no consumer could apply: kept with why, listed, replayed, dropped.

use async_trait::async_trait;

use crate::store::{DeadLetter, DeadLetterId, StoreError, StoredDeadLetter};

/// Why dead letters cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log failed.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// Its value was too large for the topic of dead letters, and is no longer where it came from.
    #[error(
        "the value of dead letter {0} was too large to be kept, and is no longer in the topic that it came from"
    )]
    ValueGone(DeadLetterId),
    /// There is no such letter, or no longer.
    #[error("there is no dead letter {0}")]
    Unknown(DeadLetterId),
}

/// The destination of records that a consumer cannot apply.
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Keeps letters, durably. Cancel-safe: some may be kept, and again later.
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError>;
}

/// Dead letters that an operator can list, replay and drop.
#[async_trait]
pub trait DeadLetterQueue: DeadLetterSink {
    /// Letters that were neither replayed nor dropped, in the order of their ids, after one, at most `limit`. Cancel-safe.
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError>;

    /// One letter. Cancel-safe.
    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError>;

    /// Hands the record to its consumers again, and forgets the letter. One that still cannot be applied becomes a new
    /// letter. Not cancel-safe: it may be handed on and kept.
    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError>;

    /// Forgets a letter.
    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError>;
}
