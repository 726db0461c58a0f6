//! A batch, applied as far as time and the database allow.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bespeak::{
    app::{Access, dead_letters, open_store},
    background::time_until,
    config::Config,
    envelope::{Origin, Record},
    events::{
        EventLog,
        consume::{Consumed, Consumer},
        dead_letter::DeadLetterSink,
        embedded::CONSUMER,
    },
    store::Database,
};
use lambda_runtime::{Diagnostic, Error};
use tokio::{sync::Notify, time::timeout};

use crate::{
    event::{Delivered, Message},
    redrive::Redrive,
    response::BatchResponse,
};

/// Records of one transaction.
const CHUNK: usize = 500;
/// How long before the deadline no transaction is left open.
const MARGIN: Duration = Duration::from_secs(2);

/// How long a connection that is given up has to be closed.
const CLOSING: Duration = Duration::from_millis(20);

/// A batch of which nothing could be done: it comes again as a whole.
#[derive(Debug, thiserror::Error)]
#[error("none of {records} records could be applied now, and all of them come again: {why}")]
pub(crate) struct NothingDone {
    records: usize,
    why: String,
}

impl From<NothingDone> for Diagnostic {
    fn from(error: NothingDone) -> Self {
        Self { error_type: "Bespeak.NothingDone".to_owned(), error_message: error.to_string() }
    }
}

/// What is kept between invocations: connections.
pub(crate) struct Batches {
    store: Arc<dyn Database>,
    letters: Arc<dyn DeadLetterSink>,
    name: String,
}

/// How far a batch came.
struct Progress {
    /// Records that are done with, from the first.
    done: usize,
    consumed: Consumed,
    /// Why it went no further.
    why: Option<String>,
}

impl Batches {
    /// Connects when there is something to apply.
    pub(crate) async fn new(config: &Config) -> Result<Self, Error> {
        let store = open_store(config, Access::Maintain).await?;
        let letters = dead_letters(config, &store)?;
        let name = match &config.events {
            EventLog::Kafka(kafka) => kafka.group.clone(),
            EventLog::Embedded => CONSUMER.to_owned(),
        };
        Ok(Self { store, letters, name })
    }

    /// Applies a batch and says what must come again. No transaction is open when it returns, but for one that was cut off
    /// because its time was over, until the database notices.
    pub(crate) async fn consume(
        &self,
        delivered: Delivered,
        deadline: SystemTime,
    ) -> Result<BatchResponse, NothingDone> {
        let time = time_until(deadline);
        let until = Instant::now() + time.saturating_sub(MARGIN.min(time / 2));
        match delivered {
            Delivered::Kafka(records) => {
                let progress = self.apply(&records, self.letters.clone(), until).await;
                let left = progress.finish(records.len(), 0)?;
                Ok(BatchResponse::of_topic(&records[left..]))
            }
            Delivered::Queue(messages) => self.consume_queue(messages, until).await,
        }
    }

    async fn consume_queue(
        &self,
        messages: Vec<Message>,
        until: Instant,
    ) -> Result<BatchResponse, NothingDone> {
        // Two messages may bear one record: each is known by its place in the batch.
        let place = |at: usize, record: Record| Record {
            origin: Origin {
                topic: record.origin.topic,
                partition: -1,
                offset: i64::try_from(at).unwrap_or(i64::MAX),
            },
            ..record
        };
        let (ids, records): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| (message.id, place(at, message.record)))
            .unzip();
        let returned = Arc::new(Redrive::default());
        let progress = self.apply(&records, returned.clone(), until).await;
        let poison = returned.take();
        let left = progress.finish(records.len(), poison.len())?;
        let poison = poison.iter().filter_map(|record| usize::try_from(record.origin.offset).ok());
        let failed = poison.chain(left..records.len()).filter_map(|at| ids.get(at).cloned());
        Ok(BatchResponse::of_queue(failed))
    }

    /// Applies records, some hundred per transaction.
    async fn apply(&self, records: &[Record], letters: Arc<dyn DeadLetterSink>, until: Instant) -> Progress {
        let consumer = Consumer::new(self.store.clone(), &self.name, letters, Arc::new(Notify::new()));
        let mut progress = Progress { done: 0, consumed: Consumed::default(), why: None };
        for chunk in records.chunks(CHUNK) {
            let time = until.saturating_duration_since(Instant::now());
            // Dropped half-way, its connection is closed, and the database undoes what was not committed when it notices;
            // what was committed is applied once.
            match timeout(time, consumer.consume(chunk)).await {
                Ok(Ok(consumed)) => {
                    progress.done += chunk.len();
                    progress.consumed.applied += consumed.applied;
                    progress.consumed.dead_lettered += consumed.dead_lettered;
                }
                Ok(Err(stopped)) => {
                    progress.done += stopped.done;
                    progress.why = Some(stopped.why.to_string());
                    break;
                }
                Err(_elapsed) => {
                    progress.why = Some("the deadline is near".to_owned());
                    // The end of the connection leaves this process before it is frozen.
                    tokio::time::sleep(CLOSING).await;
                    break;
                }
            }
        }
        progress
    }
}

impl Progress {
    /// Logs what was done, of which so many were `returned` to a queue; the place of the first record that is left.
    fn finish(self, records: usize, returned: usize) -> Result<usize, NothingDone> {
        let Self { done, consumed: Consumed { applied, dead_lettered }, why } = self;
        tracing::info!(
            records,
            applied = applied.applied,
            duplicates = applied.duplicates,
            stale = applied.stale,
            dead_lettered = dead_lettered - (returned as u64).min(dead_lettered),
            returned,
            left = records - done,
            why = why.as_deref(),
            "batch is done"
        );
        match why {
            Some(why) if done == 0 => Err(NothingDone { records, why }),
            _ => Ok(done),
        }
    }
}
