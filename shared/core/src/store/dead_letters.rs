//! Dead letters in a table, and what became of those in a topic: the port.

use async_trait::async_trait;
use serde::Serialize;

use super::StoreError;
use crate::{engine::Timestamp, envelope::Record};

/// A record that could not be applied, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was, and where.
    pub record: Record,
    /// Why it could not be applied.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// A dead letter that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// By which it is found: a number, or `PARTITION:OFFSET` of the topic of dead letters.
    pub id: DeadLetterId,
    /// The letter.
    pub letter: DeadLetter,
    /// When it was put there.
    pub created_at: Timestamp,
}

/// The place of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DeadLetterId {
    /// The partition of the topic; 0 where there is none.
    pub partition: i32,
    /// The offset in it; the number where there is no topic.
    pub offset: i64,
}

impl std::fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for DeadLetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no dead letter's id: must be PARTITION:OFFSET, such as 0:17");
        let (partition, offset) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            partition: partition.parse().map_err(|_| wrong())?,
            offset: offset.parse().map_err(|_| wrong())?,
        })
    }
}

/// What was done with a dead letter of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was sent again.
    Replayed,
    /// It was given up.
    Dropped,
}

impl Resolution {
    /// The word for it in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "REPLAYED",
            Self::Dropped => "DROPPED",
        }
    }
}

/// Dead letters. A method is one whole transaction.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Keeps letters in the table.
    async fn keep_letters(&self, letters: &[DeadLetter]) -> Result<(), StoreError>;

    /// Letters of the table after a number, in order, at most `limit`. Cancel-safe.
    async fn letters(&self, after: i64, limit: u32) -> Result<Vec<StoredDeadLetter>, StoreError>;

    /// Forgets a letter of the table; says whether it was there.
    async fn forget_letter(&self, number: i64) -> Result<bool, StoreError>;

    /// Notes what was done with a letter of a topic; says whether nothing had been done before.
    async fn resolve_dead_letter(
        &self,
        topic: &str,
        id: DeadLetterId,
        settled: Resolution,
    ) -> Result<bool, StoreError>;

    /// The letters of a topic with which something was done. Cancel-safe.
    async fn resolved_dead_letters(&self, topic: &str) -> Result<Vec<DeadLetterId>, StoreError>;
}
