//! What an invocation did, as its answer and as one line of the log, which alarms are made of.

use std::time::Duration;

use bespeak::{background::RunReport, delivery, events::relay::Relayed, store::Backlog};
use lambda_runtime::Diagnostic;
use serde::Serialize;

use crate::request::Task;

/// What became of the tasks; those that were not done did nothing.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) expire: RunReport<u64>,
    pub(crate) relay: RunReport<Relayed>,
    pub(crate) webhooks: RunReport<delivery::Step>,
    pub(crate) purge: RunReport<u64>,
    /// Why nothing of that is known.
    pub(crate) cut_off: Option<String>,
    /// What still awaits publication; `None` where the database did not say.
    pub(crate) backlog: Option<Backlog>,
}

/// The answer of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    task: Task,
    /// Holds that were expired.
    expired: u64,
    relayed: RelayedSummary,
    webhooks: WebhooksSummary,
    /// Records that were forgotten.
    purged: u64,
    unpublished: Option<u64>,
    took_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RelayedSummary {
    published: u64,
    refused: u64,
    failed: u64,
    parked: u64,
    lag_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhooksSummary {
    delivered: usize,
    failed: usize,
    given_up: usize,
    disabled: u64,
}

/// Tasks that failed; the schedule comes again.
#[derive(Debug, thiserror::Error)]
#[error("{failures}; what was done: {done}")]
pub(crate) struct Failed {
    failures: String,
    done: String,
}

impl From<Failed> for Diagnostic {
    fn from(error: Failed) -> Self {
        Self { error_type: "Bespeak.ChoreFailed".to_owned(), error_message: error.to_string() }
    }
}

impl Done {
    /// Logs what was done, and answers: with an error where a chore failed, so that it counts as one.
    pub(crate) fn answer(self, task: Task, took: Duration) -> Result<Report, Failed> {
        let relayed = self.relay.total;
        let delivered = self.webhooks.total;
        let unpublished = self.backlog.map(|backlog| backlog.unpublished);
        // Also where no relay came so far as to read it.
        let waits =
            self.backlog.and_then(|backlog| backlog.oldest.map(|oldest| backlog.now.duration_since(oldest)));
        let waits_ms = waits.and_then(|waits| u64::try_from(waits.as_millis()).ok()).unwrap_or(0);
        let lag_ms = relayed.lag_ms.max(waits_ms);
        let summary = Report {
            task,
            expired: self.expire.total,
            relayed: RelayedSummary {
                published: relayed.published,
                refused: relayed.refused,
                failed: relayed.failed,
                parked: relayed.parked,
                lag_ms,
            },
            webhooks: WebhooksSummary {
                delivered: delivered.delivered,
                failed: delivered.failed,
                given_up: delivered.given_up,
                disabled: delivered.disabled,
            },
            purged: self.purge.total,
            unpublished,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        let failures = [
            ("expire", self.expire.failure),
            ("relay", self.relay.failure),
            ("webhooks", self.webhooks.failure),
            ("purge", self.purge.failure),
            ("the invocation", self.cut_off),
        ];
        let failures: Vec<_> = failures
            .into_iter()
            .filter_map(|(chore, failure)| failure.map(|failure| format!("{chore}: {failure}")))
            .collect();
        tracing::info!(
            expired = summary.expired,
            published = relayed.published,
            refused = relayed.refused,
            failed = relayed.failed,
            parked = relayed.parked,
            lag_ms,
            delivered = delivered.delivered,
            given_up = delivered.given_up,
            purged = summary.purged,
            unpublished = summary.unpublished,
            took_ms = summary.took_ms,
            failures = failures.len(),
            "relay-cron is done"
        );
        if failures.is_empty() {
            return Ok(summary);
        }
        let done = serde_json::to_string(&summary).unwrap_or_default();
        Err(Failed { failures: failures.join("; "), done })
    }
}
