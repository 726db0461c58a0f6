//! The report of an invocation: its answer, and the log line that the alarms of `template.yaml` read.

use std::time::Duration;

use bespeak::{background::RunReport, delivery, events::relay::RelayTotals, store::Backlog};
use lambda_runtime::Diagnostic;
use serde::Serialize;

use crate::request::Task;

/// The results of the tasks. A task that was not requested has an empty one.
#[derive(Debug, Default)]
pub(crate) struct TaskResults {
    pub(crate) expire: RunReport<u64>,
    pub(crate) relay: RunReport<RelayTotals>,
    pub(crate) webhooks: RunReport<delivery::DeliveryStep>,
    pub(crate) purge: RunReport<u64>,
    /// The number of findings of the audit; `None` if there was no audit.
    pub(crate) verify: RunReport<Option<u64>>,
    /// Why the tasks were dropped before they returned their results.
    pub(crate) cut_off: Option<String>,
    /// The events that await publication; `None` if the database did not answer in time.
    pub(crate) backlog: Option<Backlog>,
}

/// The answer of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    task: Task,
    /// The number of holds that were expired.
    expired: u64,
    relayed: RelayReport,
    webhooks: WebhooksReport,
    /// The number of records that were purged.
    purged: u64,
    /// The number of violations that the audit found.
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<u64>,
    /// The number of events that await publication.
    unpublished: Option<u64>,
    took_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RelayReport {
    published: u64,
    refused: u64,
    failed: u64,
    parked: u64,
    lag_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhooksReport {
    delivered: usize,
    failed: usize,
    given_up: usize,
    disabled: u64,
}

/// At least one task failed. The next invocation tries again.
#[derive(Debug, thiserror::Error)]
#[error("{failures}; completed work: {done}")]
pub(crate) struct TasksFailed {
    failures: String,
    done: String,
}

impl From<TasksFailed> for Diagnostic {
    // Alarms may match the error type, so it stays as it was.
    fn from(error: TasksFailed) -> Self {
        Self { error_type: "Bespeak.ChoreFailed".to_owned(), error_message: error.to_string() }
    }
}

impl TaskResults {
    /// Logs the results and makes the report: an error if a task failed, so that Lambda counts the invocation as
    /// failed.
    pub(crate) fn into_report(self, task: Task, took: Duration) -> Result<Report, TasksFailed> {
        let relayed = self.relay.total;
        let delivered = self.webhooks.total;
        let unpublished = self.backlog.map(|backlog| backlog.unpublished);
        // The relay reports the lag of the events that it read. If it read none, the oldest unpublished event counts.
        let waits =
            self.backlog.and_then(|backlog| backlog.oldest.map(|oldest| backlog.now.duration_since(oldest)));
        let waits_ms = waits.and_then(|waits| u64::try_from(waits.as_millis()).ok()).unwrap_or(0);
        let lag_ms = relayed.lag_ms.max(waits_ms);
        let report = Report {
            task,
            expired: self.expire.total,
            relayed: RelayReport {
                published: relayed.published,
                refused: relayed.refused,
                failed: relayed.failed,
                parked: relayed.parked,
                lag_ms,
            },
            webhooks: WebhooksReport {
                delivered: delivered.delivered,
                failed: delivered.failed,
                given_up: delivered.given_up,
                disabled: delivered.disabled,
            },
            purged: self.purge.total,
            findings: self.verify.total,
            unpublished,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        let failures = [
            ("expire", self.expire.failure),
            ("relay", self.relay.failure),
            ("webhooks", self.webhooks.failure),
            ("purge", self.purge.failure),
            ("verify", self.verify.failure),
            ("the invocation", self.cut_off),
        ];
        let failures: Vec<_> = failures
            .into_iter()
            .filter_map(|(task, failure)| failure.map(|failure| format!("{task}: {failure}")))
            .collect();
        tracing::info!(
            expired = report.expired,
            published = relayed.published,
            refused = relayed.refused,
            failed = relayed.failed,
            parked = relayed.parked,
            lag_ms,
            delivered = delivered.delivered,
            given_up = delivered.given_up,
            purged = report.purged,
            findings = report.findings,
            unpublished = report.unpublished,
            took_ms = report.took_ms,
            failures = failures.len(),
            "relay-cron is done"
        );
        if failures.is_empty() {
            return Ok(report);
        }
        let done = serde_json::to_string(&report).unwrap_or_default();
        Err(TasksFailed { failures: failures.join("; "), done })
    }
}
