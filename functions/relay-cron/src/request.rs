//! What an invocation is told to do: by a schedule, everything; by hand, one task.

use bespeak::background::RunUntil;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::Value;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    /// End overdue holds.
    Expire,
    /// Publish the outbox.
    Relay,
    /// Deliver webhooks.
    Webhooks,
    /// Forget what is old.
    Purge,
    /// All of it, side by side.
    All,
}

impl Task {
    const ALL: [(&str, Self); 5] = [
        ("expire", Self::Expire),
        ("relay", Self::Relay),
        ("webhooks", Self::Webhooks),
        ("purge", Self::Purge),
        ("all", Self::All),
    ];

    /// Whether `other` is it, or part of it.
    pub(crate) fn has(self, other: Self) -> bool {
        self == Self::All || self == other
    }
}

/// An request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRequest {
    pub(crate) task: Task,
    pub(crate) until: RunUntil,
    /// By a schedule, which comes again: what need not be done each time is not.
    pub(crate) scheduled: bool,
}

/// An event that is no request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; relay-cron takes {{\"task\":\"expire|relay|webhooks|purge|all\",\"until\":\"idle|deadline\"}} or a scheduled event"
)]
pub(crate) struct InvalidRequest(String);

impl From<InvalidRequest> for Diagnostic {
    fn from(error: InvalidRequest) -> Self {
        Self { error_type: "Bespeak.InvalidRequest".to_owned(), error_message: error.to_string() }
    }
}

impl TaskRequest {
    /// Parses an event: an request by hand, or that of an EventBridge rule or scheduler, which goes on `until` what the
    /// configuration says.
    pub(crate) fn parse(event: &Value, until: RunUntil) -> Result<Self, InvalidRequest> {
        let Value::Object(fields) = event else {
            return Err(InvalidRequest("the event is no JSON object".to_owned()));
        };
        let by_schedule = ["aws.events", "aws.scheduler"]
            .contains(&event["source"].as_str().unwrap_or_default())
            && event["detail-type"] == "Scheduled Event";
        if by_schedule {
            return Ok(Self { task: Task::All, until, scheduled: true });
        }
        if let Some(unknown) = fields.keys().find(|name| !["task", "until"].contains(&name.as_str())) {
            return Err(InvalidRequest(format!("the event has the unknown field {unknown:?}")));
        }
        let named = |name: &str| match fields.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(InvalidRequest(format!("{name} is {other}, and no text"))),
        };
        let task = named("task")?.ok_or_else(|| InvalidRequest("the event has no task".to_owned()))?;
        let task = Task::ALL
            .iter()
            .find(|(name, _)| *name == task)
            .map(|(_, task)| *task)
            .ok_or_else(|| InvalidRequest(format!("there is no task {task:?}")))?;
        let until = match named("until")? {
            None | Some("idle") => RunUntil::Idle,
            Some("deadline") => RunUntil::Stopped,
            Some(other) => return Err(InvalidRequest(format!("until is {other:?}"))),
        };
        Ok(Self { task, until, scheduled: false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_orders_everything_and_a_hand_one_task() {
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
        assert_eq!(
            parse(json!({"task": "all", "until": "deadline"})).map(|request| request.until),
            Ok(RunUntil::Stopped)
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_would_be_right() {
        let cases = [
            (json!([]), "no JSON object"),
            (json!({}), "has no task"),
            (json!({"task": "sell"}), "no task \"sell\""),
            (json!({"task": 5}), "task is 5, and no text"),
            (json!({"task": "all", "until": "noon"}), "until is \"noon\""),
            (json!({"Records": []}), "unknown field \"Records\""),
            (json!({"source": "aws.s3", "detail-type": "Object Created"}), "unknown field"),
        ];
        for (event, says) in cases {
            let refused = TaskRequest::parse(&event, RunUntil::Idle).unwrap_err().to_string();
            assert!(refused.contains(says) && refused.contains("expire|relay"), "{event}: {refused}");
        }
    }
}
