//! The port of dead letters: those in the table, and the resolutions of those in a topic.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::StoreError;
use crate::{engine::Timestamp, envelope::Record};

/// A record that could not be applied, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as received, with its place in the event log.
    pub record: Record,
    /// The reason why it could not be applied.
    pub reason: String,
    /// The number of attempts to apply it.
    pub attempts: u32,
}

/// A dead letter in the table or in the topic of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its id: a number of the table, or `PARTITION:OFFSET` in the topic of dead letters.
    pub id: DeadLetterId,
    /// The dead letter.
    pub letter: DeadLetter,
    /// The instant at which it was stored.
    pub created_at: Timestamp,
}

/// The id of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DeadLetterId {
    /// The partition of the topic; 0 for the table.
    pub partition: i32,
    /// The offset in the partition; for the table, the number.
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
        let wrong =
            || format!("{text:?} is not the id of a dead letter: must be PARTITION:OFFSET, such as 0:17");
        let (partition, offset) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            partition: partition.parse().map_err(|_| wrong())?,
            offset: offset.parse().map_err(|_| wrong())?,
        })
    }
}

/// What an operator did with a dead letter of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was published again.
    Replayed,
    /// It was discarded.
    Dropped,
}

impl Resolution {
    /// The name in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "REPLAYED",
            Self::Dropped => "DROPPED",
        }
    }
}

/// The store of dead letters. Each method is one whole transaction.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Stores dead letters in the table.
    async fn store_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), StoreError>;

    /// Reads dead letters of the table after a number, in order, at most `limit`. Cancel-safe.
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<StoredDeadLetter>, StoreError>;

    /// Deletes dead letters of the table, and returns how many existed. The events in `given_up` count as skipped from
    /// then on.
    async fn delete_dead_letters(&self, numbers: &[i64], given_up: &[Uuid]) -> Result<u64, StoreError>;

    /// Records the resolution of dead letters of a topic, and returns how many had none before. The events in
    /// `given_up` count as skipped from then on.
    async fn resolve_dead_letters(
        &self,
        topic: &str,
        ids: &[DeadLetterId],
        resolution: Resolution,
        given_up: &[Uuid],
    ) -> Result<u64, StoreError>;

    /// Reads the dead letters of a topic, among those with these offsets, that have a resolution. Cancel-safe.
    async fn resolved_dead_letters(
        &self,
        topic: &str,
        offsets: RangeInclusive<i64>,
    ) -> Result<Vec<DeadLetterId>, StoreError>;

    /// Deletes the resolutions of dead letters before an offset, which are no longer in their topic.
    async fn forget_resolved_dead_letters(&self, topic: &str, before: i64) -> Result<(), StoreError>;
}
