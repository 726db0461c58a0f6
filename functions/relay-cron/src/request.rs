//! The event of an invocation: a scheduled event, which means all tasks, or a request for one task or all of them.

use bespeak::background::RunUntil;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::Value;

/// A background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    /// Expire overdue holds.
    Expire,
    /// Publish the outbox.
    Relay,
    /// Deliver webhooks.
    Webhooks,
    /// Purge records past their retention.
    Purge,
    /// All of these.
    All,
    /// Audit the books, and record the result. It reads every row, so it is not one of all.
    Verify,
}

impl Task {
    const ALL: [(&str, Self); 6] = [
        ("expire", Self::Expire),
        ("relay", Self::Relay),
        ("webhooks", Self::Webhooks),
        ("purge", Self::Purge),
        ("all", Self::All),
        ("verify", Self::Verify),
    ];

    /// Whether `other` is this task, or one of all.
    pub(crate) fn includes(self, other: Self) -> bool {
        self == other || (self == Self::All && other != Self::Verify)
    }
}

/// The tasks to run, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRequest {
    pub(crate) task: Task,
    pub(crate) until: RunUntil,
    /// Whether a schedule sent it. A schedule repeats, so the purge need not run every time.
    pub(crate) scheduled: bool,
}

/// The event is neither a scheduled event nor a valid request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; relay-cron takes a scheduled event, or \
     {{\"task\":\"expire|relay|webhooks|purge|all|verify\",\"until\":\"idle|deadline\"}}"
)]
pub(crate) struct InvalidRequest(String);

impl From<InvalidRequest> for Diagnostic {
    fn from(error: InvalidRequest) -> Self {
        Self { error_type: "Bespeak.InvalidRequest".to_owned(), error_message: error.to_string() }
    }
}

impl TaskRequest {
    /// Parses an event. `until` is how long the tasks of a scheduled event (of an EventBridge rule or scheduler) run.
    pub(crate) fn parse(event: &Value, until: RunUntil) -> Result<Self, InvalidRequest> {
        let Value::Object(fields) = event else {
            return Err(InvalidRequest("the event must be a JSON object".to_owned()));
        };
        let by_schedule = ["aws.events", "aws.scheduler"]
            .contains(&event["source"].as_str().unwrap_or_default())
            && event["detail-type"] == "Scheduled Event";
        if by_schedule {
            return Ok(Self { task: Task::All, until, scheduled: true });
        }
        if let Some(unknown) = fields.keys().find(|name| !["task", "until"].contains(&name.as_str())) {
            return Err(InvalidRequest(format!("unknown field `{}`", unknown.escape_debug())));
        }
        let text = |name: &str| match fields.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(InvalidRequest(format!("`{name}` must be a string, got {other}"))),
        };
        let task = text("task")?.ok_or_else(|| InvalidRequest("the field `task` is missing".to_owned()))?;
        let task =
            Task::ALL.iter().find(|(name, _)| *name == task).map(|(_, task)| *task).ok_or_else(|| {
                InvalidRequest(format!(
                    "`task` must be expire, relay, webhooks, purge, all or verify, got {task:?}"
                ))
            })?;
        let until = match text("until")? {
            None | Some("idle") => RunUntil::Idle,
            Some("deadline") => RunUntil::Stopped,
            Some(other) => {
                return Err(InvalidRequest(format!(
                    "`until` must be \"idle\" or \"deadline\", got {other:?}"
                )));
            }
        };
        Ok(Self { task, until, scheduled: false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_runs_all_tasks_and_a_request_one() {
        let parse = |event: Value| TaskRequest::parse(&event, RunUntil::Stopped);
        for source in ["aws.events", "aws.scheduler"] {
            let request = parse(
                json!({"version": "0", "source": source, "detail-type": "Scheduled Event", "detail": {}}),
            );
            assert_eq!(
                request,
                Ok(TaskRequest { task: Task::All, until: RunUntil::Stopped, scheduled: true })
            );
        }
        let request = parse(json!({"task": "purge"}));
        assert_eq!(request, Ok(TaskRequest { task: Task::Purge, until: RunUntil::Idle, scheduled: false }));
        assert!(Task::All.includes(Task::Purge) && !Task::All.includes(Task::Verify));
        assert!(Task::Verify.includes(Task::Verify) && !Task::Verify.includes(Task::Purge));
        assert_eq!(
            parse(json!({"task": "all", "until": "deadline"})).map(|request| request.until),
            Ok(RunUntil::Stopped)
        );
    }

    #[test]
    fn invalid_events_are_refused_with_the_valid_ones() {
        let cases = [
            (json!([]), "must be a JSON object"),
            (json!({}), "`task` is missing"),
            (json!({"task": "sell"}), "got \"sell\""),
            (json!({"task": 5}), "`task` must be a string, got 5"),
            (json!({"task": "all", "until": "noon"}), "got \"noon\""),
            (json!({"Records": []}), "unknown field `Records`"),
            (json!({"source": "aws.s3", "detail-type": "Object Created"}), "unknown field"),
        ];
        for (event, expected) in cases {
            let refused = TaskRequest::parse(&event, RunUntil::Idle).unwrap_err().to_string();
            assert!(refused.contains(expected) && refused.contains("expire|relay"), "{event}: {refused}");
        }
    }
}
