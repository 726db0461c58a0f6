//! `bespeak outbox`: lists the events of the outbox, and retries, skips or republishes them.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::Access,
    config::{Config, Values},
    store::{Backlog, Database, OutboxFilter, OutboxRow, OutboxState},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    args::{OutboxCommand, OutboxListArgs, OutboxReplayArgs},
    database::open,
    failure::Failure,
    output::{Output, card, counted, table},
};

/// How many rows one transaction of a replay marks, so that it holds no locks for long.
const REPLAY_STEP: u32 = 2_000;

pub(crate) async fn run(output: Output, command: OutboxCommand) -> Result<ExitCode, Failure> {
    match command {
        OutboxCommand::List(args) => {
            with(args.flags.values()?, async |store| list(output, store, &args).await).await
        }
        OutboxCommand::Show(args) => {
            with(args.flags.values()?, async |store| {
                let row = find(store, args.event_id).await?;
                output.print(&shown(&row), || row_card(&row))
            })
            .await
        }
        OutboxCommand::Retry(args) => {
            with(args.flags.values()?, async |store| {
                let keys = store.retry_blocked(args.key.as_deref()).await?;
                if let (Some(key), 0) = (&args.key, keys) {
                    return Err(Failure::new(format!("{key} is neither blocked nor parked")));
                }
                output.print(&json!({"keys": keys}), || {
                    counted(keys, "key is retried now", "keys are retried now")
                })
            })
            .await
        }
        OutboxCommand::Skip(args) => {
            with(args.flags.values()?, async |store| {
                let row = find(store, args.event_id).await?;
                if !store.skip(&row.event).await? {
                    return Err(Failure::new(format!("{} is already published", args.event_id)));
                }
                output.print(&json!({"skipped": args.event_id, "key": row.event.key}), || {
                    format!("{} is skipped", args.event_id)
                })
            })
            .await
        }
        OutboxCommand::Replay(args) => {
            with(args.flags.values()?, async |store| replay(output, store, &args).await).await
        }
    }
}

/// Opens the database, runs one action, and closes the database whatever becomes of the action.
async fn with(
    values: Values,
    action: impl AsyncFnOnce(&Arc<dyn Database>) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store = open(&config, Access::Maintain).await?;
    let done = action(&store).await;
    store.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn list(output: Output, store: &Arc<dyn Database>, args: &OutboxListArgs) -> Result<(), Failure> {
    let state = OutboxState::ALL.into_iter().find(|state| args.state.as_deref() == Some(state.as_str()));
    let filter =
        OutboxFilter { state, key: args.key.clone(), event_id: None, after: args.after, limit: args.limit };
    let rows = store.outbox_rows(&filter).await?;
    let backlog = store.backlog().await?;
    let json = json!({
        "events": rows.iter().map(shown).collect::<Vec<_>>(),
        "unpublished": backlog.unpublished,
        "blockedKeys": backlog.blocked,
        "parkedKeys": backlog.parked,
    });
    output.print(&json, || {
        let mut lines = table(&["number", "event", "key", "version", "type", "state", "reason"]);
        for OutboxRow { event, state, reason, .. } in &rows {
            lines.add_row([
                event.id.to_string(),
                event.event_id.to_string(),
                event.key.clone(),
                event.version.to_string(),
                event.kind.clone(),
                state.as_str().to_owned(),
                reason.clone().unwrap_or_default(),
            ]);
        }
        format!(
            "{lines}\n{}; {}, {}",
            at_least(backlog.unpublished)
                + &counted(backlog.unpublished, "event awaits publication", "events await publication"),
            counted(backlog.blocked, "key is blocked", "keys are blocked"),
            counted(backlog.parked, "is parked", "are parked"),
        )
    })
}

async fn replay(output: Output, store: &Arc<dyn Database>, args: &OutboxReplayArgs) -> Result<(), Failure> {
    let until = args.until.unwrap_or_else(jiff::Timestamp::now);
    if until <= args.since {
        return Err(Failure::usage(format!("--until {until} must be after --since {}", args.since)));
    }
    let (mut events, mut after) = (0, 0);
    loop {
        let step = store.republish(args.since, until, after, REPLAY_STEP).await?;
        events += step.events;
        let Some(next) = step.next else { break };
        after = next;
    }
    output.print(&json!({"events": events}), || {
        counted(events, "event is published again", "events are published again")
    })
}

async fn find(store: &Arc<dyn Database>, event_id: Uuid) -> Result<OutboxRow, Failure> {
    let filter = OutboxFilter { event_id: Some(event_id), limit: 1, ..OutboxFilter::default() };
    let row = store.outbox_rows(&filter).await?.into_iter().next();
    row.ok_or_else(|| Failure::new(format!("{event_id} is not in the outbox, or was purged from it")))
}

fn shown(row: &OutboxRow) -> Value {
    let OutboxRow { event, state, published_at, blocked_until, reason } = row;
    json!({
        "number": event.id,
        "eventId": event.event_id,
        "key": event.key,
        "version": event.version,
        "type": event.kind,
        "state": state.as_str(),
        "attempts": event.attempts,
        "createdAt": event.created_at,
        "traceId": event.trace.map(|trace| trace.trace_id().to_string()),
        "publishedAt": published_at,
        "blockedUntil": blocked_until,
        "reason": reason,
        "data": serde_json::from_str::<Value>(&event.payload).unwrap_or_default(),
    })
}

fn row_card(row: &OutboxRow) -> String {
    let OutboxRow { event, state, published_at, blocked_until, reason } = row;
    let time = |at: &Option<jiff::Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    card(&[
        ("number", event.id.to_string()),
        ("event", event.event_id.to_string()),
        ("key", event.key.clone()),
        ("version", event.version.to_string()),
        ("type", event.kind.clone()),
        ("state", state.as_str().to_owned()),
        ("attempts", event.attempts.to_string()),
        ("created", event.created_at.to_string()),
        ("trace", event.trace.map_or_else(|| "-".to_owned(), |trace| trace.trace_id().to_string())),
        ("published", time(published_at)),
        ("retried at", time(blocked_until)),
        ("reason", reason.clone().unwrap_or_else(|| "-".to_owned())),
        ("data", event.payload.clone()),
    ])
}

/// Says so if a count is only the number at which counting stopped.
fn at_least(count: u64) -> String {
    if count >= Backlog::COUNTED_MAX { "at least ".to_owned() } else { String::new() }
}
