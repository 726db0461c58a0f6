//! The content of the event log, as an audit reads it: the whole topic, from its beginning.

use std::collections::HashMap;

use uuid::Uuid;

use super::error::AuditError;
use crate::events::EventLog;

/// The content of the event log: its events, and the order in which those of each key first appeared.
#[derive(Default)]
pub(super) struct Log {
    /// The partition and the offset of the last appearance of each event.
    pub(super) seen: HashMap<Uuid, (i32, i64)>,
    #[cfg(feature = "kafka")]
    versions: HashMap<String, u64>,
    pub(super) records: u64,
    pub(super) repeated: u64,
    /// Key, the version that appeared first, and the lower version that appeared after it.
    pub(super) disordered: Vec<(String, u64, u64)>,
    /// The places of records that are no events of this product.
    pub(super) foreign: Vec<String>,
}

#[cfg(feature = "kafka")]
impl Log {
    fn read(&mut self, record: &crate::envelope::Record) {
        self.records += 1;
        let id = record.header("ce_id").and_then(|id| Uuid::try_parse(&id).ok());
        let version = record.header("ce_keyversion").and_then(|version| version.parse::<u64>().ok());
        let key = record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        let (Some(id), Some(version), Some(key)) = (id, version, key) else {
            let origin = &record.origin;
            self.foreign.push(format!("{}:{}:{}", origin.topic, origin.partition, origin.offset));
            return;
        };
        if self.seen.insert(id, (record.origin.partition, record.origin.offset)).is_some() {
            self.repeated += 1;
            return;
        }
        let last = self.versions.entry(key.clone()).or_default();
        if version < *last {
            self.disordered.push((key, *last, version));
        }
        *last = version.max(*last);
    }
}

/// Reads the whole topic; `None` if there is no event log.
#[cfg_attr(not(feature = "kafka"), expect(clippy::unused_async, reason = "the same signature as with Kafka"))]
pub(super) async fn read_log(event_log: &EventLog) -> Result<Option<Log>, AuditError> {
    match event_log {
        EventLog::Embedded => Ok(None),
        #[cfg(feature = "kafka")]
        EventLog::Kafka(kafka) => {
            let kafka = kafka.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut log = Log::default();
                let visit = |record: crate::envelope::Record| {
                    log.read(&record);
                    std::ops::ControlFlow::Continue(())
                };
                crate::events::kafka::read_topic(&kafka, &kafka.topic, |_| Some(0), visit).map(|()| log)
            });
            match read.await {
                Ok(Ok(log)) => Ok(Some(log)),
                Ok(Err(error)) => Err(AuditError::Log(error.to_string())),
                Err(_) => Err(AuditError::Log("reading it panicked".to_owned())),
            }
        }
        #[cfg(not(feature = "kafka"))]
        EventLog::Kafka(_) => {
            Err(AuditError::Log("this build has no Kafka: build it with the feature kafka".to_owned()))
        }
    }
}
