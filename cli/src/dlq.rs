//! `bespeak dlq`: lists the events that no consumer could apply, and replays or drops them.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::{Access, dead_letters},
    config::{Config, Values},
    events::dead_letter::{DeadLetterError, DeadLetterQueue, Replayed},
    store::{DeadLetterId, StoredDeadLetter},
};
use serde_json::{Value, json};

use crate::{
    args::{DlqCommand, DlqListArgs},
    database::open,
    failure::Failure,
    output::{Output, card, counted, table},
};

pub(crate) async fn run(output: Output, command: DlqCommand) -> Result<ExitCode, Failure> {
    match command {
        DlqCommand::List(args) => {
            with(args.flags.values()?, async |letters| list(output, letters, &args).await).await
        }
        DlqCommand::Show(args) => {
            with(args.flags.values()?, async |letters| {
                let kept = letters.get(args.id).await?;
                output.print(&shown(&kept), || letter_card(&kept))
            })
            .await
        }
        DlqCommand::Replay(args) => {
            with(args.flags.values()?, async |letters| replay(output, letters, args.id).await).await
        }
        DlqCommand::Drop(args) => {
            with(args.flags.values()?, async |letters| {
                letters.drop_letter(args.id).await?;
                output.print(&json!({"dropped": args.id.to_string()}), || format!("{} is dropped", args.id))
            })
            .await
        }
    }
}

/// Opens the dead letters, runs one action on them, and closes the database whatever becomes of the action.
async fn with(
    values: Values,
    action: impl AsyncFnOnce(&Arc<dyn DeadLetterQueue>) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let config = Config::parse(&values)?;
    let store = open(&config, Access::Maintain).await?;
    let done = match dead_letters(&config, &store) {
        Ok(letters) => action(&letters).await,
        Err(error) => Err(error.into()),
    };
    store.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn list(output: Output, letters: &Arc<dyn DeadLetterQueue>, args: &DlqListArgs) -> Result<(), Failure> {
    let kept = letters.list(args.after, args.limit).await?;
    output.print(&kept.iter().map(shown).collect::<Vec<_>>(), || {
        let mut lines = table(&["id", "event", "type", "from", "since", "reason"]);
        for letter in &kept {
            let record = &letter.letter.record;
            lines.add_row([
                letter.id.to_string(),
                record.header("ce_id").unwrap_or_default(),
                record.header("ce_type").unwrap_or_default(),
                from(letter),
                letter.created_at.to_string(),
                letter.letter.reason.clone(),
            ]);
        }
        format!("{lines}\n{}", counted(kept.len() as u64, "dead letter", "dead letters"))
    })
}

/// Replays one dead letter, or all that exist now. An event that fails again becomes a new dead letter, which this
/// replay does not take, so that it ends.
async fn replay(
    output: Output,
    letters: &Arc<dyn DeadLetterQueue>,
    id: Option<DeadLetterId>,
) -> Result<(), Failure> {
    let done = match id {
        Some(id) => {
            letters.replay(id).await?;
            Replayed { replayed: vec![id], refused: Vec::new() }
        }
        None => letters.replay_all().await?,
    };
    let replayed: Vec<String> = done.replayed.iter().map(ToString::to_string).collect();
    output.print(&json!({"replayed": replayed}), || {
        format!(
            "{} replayed; `bespeak dlq list` shows those that still cannot be applied",
            counted(replayed.len() as u64, "dead letter", "dead letters")
        )
    })?;
    match done.refused.first() {
        None => Ok(()),
        Some((_, reason)) => {
            let refused = counted(done.refused.len() as u64, "dead letter remains", "dead letters remain");
            Err(Failure::new(format!("{refused}: {reason}")))
        }
    }
}

fn from(kept: &StoredDeadLetter) -> String {
    let origin = &kept.letter.record.origin;
    format!("{}:{}:{}", origin.topic, origin.partition, origin.offset)
}

fn shown(kept: &StoredDeadLetter) -> Value {
    let record = &kept.letter.record;
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!({"name": name, "value": String::from_utf8_lossy(value)}))
        .collect();
    json!({
        "id": kept.id.to_string(),
        "reason": kept.letter.reason,
        "attempts": kept.letter.attempts,
        "since": kept.created_at,
        "topic": record.origin.topic,
        "partition": record.origin.partition,
        "offset": record.origin.offset,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "headers": headers,
        "value": record.value.as_deref().map(String::from_utf8_lossy),
    })
}

fn letter_card(kept: &StoredDeadLetter) -> String {
    let record = &kept.letter.record;
    let headers: Vec<String> = record
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or_else(|| "-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    card(&[
        ("id", kept.id.to_string()),
        ("reason", kept.letter.reason.clone()),
        ("attempts", kept.letter.attempts.to_string()),
        ("since", kept.created_at.to_string()),
        ("from", from(kept)),
        ("key", text(record.key.as_deref())),
        ("headers", headers.join("\n")),
        ("value", text(record.value.as_deref())),
    ])
}

impl From<DeadLetterError> for Failure {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Store(error) => error.into(),
            other => Self::new(other.to_string()),
        }
    }
}
