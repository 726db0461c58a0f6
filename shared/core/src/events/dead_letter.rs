//! The ports of dead letters: records that the consumer could not apply, each kept with the reason.
//!
//! The consumer needs a [`DeadLetterSink`]; operators list, replay and drop through a [`DeadLetterQueue`]. The
//! embedded event log keeps dead letters in the database (`embedded.rs`), Kafka in a topic (`kafka/dead_letters.rs`).

use async_trait::async_trait;

use crate::store::{DeadLetter, DeadLetterId, StoreError, StoredDeadLetter};

/// The reason why dead letters cannot be written, read or resolved.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log failed.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The value was too large for the topic of dead letters, and its original is no longer in the topic of events.
    #[error(
        "the value of dead letter {0} was too large to be kept, and is no longer in the topic that it came from"
    )]
    ValueGone(DeadLetterId),
    /// The dead letter names another topic as its origin, into which nothing is ever published.
    #[error(
        "dead letter {id} names the topic {topic:?} as its origin, and only records of {expected} are replayed"
    )]
    ForeignTopic {
        /// The dead letter.
        id: DeadLetterId,
        /// The topic that it names.
        topic: String,
        /// The topic of events.
        expected: String,
    },
    /// There is no such dead letter, or it was replayed or dropped.
    #[error("there is no dead letter {0}")]
    Unknown(DeadLetterId),
}

/// The result of a replay of all dead letters.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Those that were replayed.
    pub replayed: Vec<DeadLetterId>,
    /// Those that remain, each with the reason.
    pub refused: Vec<(DeadLetterId, DeadLetterError)>,
}

/// The destination of records that a consumer cannot apply.
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Stores dead letters durably. Cancel-safe: if cancelled, some may be stored, and are stored again by a retry.
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError>;
}

/// Dead letters that an operator can list, replay and drop.
#[async_trait]
pub trait DeadLetterQueue: DeadLetterSink {
    /// Returns at most `limit` dead letters that were neither replayed nor dropped, in the order of their ids, after
    /// `after`. Cancel-safe.
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError>;

    /// Returns one dead letter. Cancel-safe.
    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError>;

    /// Delivers the record to its consumer again, and removes the dead letter. If the record still cannot be applied,
    /// it becomes a new dead letter. Not cancel-safe: the record may be delivered and the dead letter remain.
    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError>;

    /// Replays every dead letter that exists now, in order, and returns those that were replayed. Dead letters that
    /// cannot be replayed remain, and do not stop the others. Not cancel-safe, as [`DeadLetterQueue::replay`].
    ///
    /// # Errors
    /// The database or the event log is unavailable; those before are replayed.
    async fn replay_all(&self) -> Result<Replayed, DeadLetterError>;

    /// Removes a dead letter without delivering it. Its event counts as given up, as if it had been skipped in the
    /// outbox.
    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError>;
}
