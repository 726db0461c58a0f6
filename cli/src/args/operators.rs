//! The options of the operators' commands, which open the database themselves: `migrate`, `verify`, `backup`, `outbox`
//! and `dlq`.

use std::path::PathBuf;

use bespeak::store::DeadLetterId;
use clap::{Args, Subcommand};

use crate::server_flags::ServerFlags;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Create the database first if it does not exist; the account needs the privilege to do so
    #[arg(long)]
    pub(crate) create_database: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Audit the event pipeline as well: the outbox against the event log, the order of events, the SmartKeys
    #[arg(long)]
    pub(crate) events: bool,
    /// Record the number of findings in the database, for the metrics bespeak_verify_findings and
    /// bespeak_verify_age_seconds
    #[arg(long)]
    pub(crate) record: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to create; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// List events in the order in which they were written
    #[command(after_help = "\
Examples:
  bespeak outbox list --state parked
  bespeak outbox list --key room-101 --limit 10")]
    List(OutboxListArgs),
    /// Show one event
    Show(OutboxEventArgs),
    /// Retry blocked and parked keys now: one key, or all
    #[command(after_help = "\
Examples:
  bespeak outbox retry room-101
  bespeak outbox retry --all")]
    Retry(OutboxRetryArgs),
    /// Give up an event: it is never published, and the later events of its key are
    Skip(OutboxEventArgs),
    /// Publish events again; consumers recognise them by their ids
    #[command(after_help = "\
Example:
  bespeak outbox replay --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z")]
    Replay(OutboxReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OutboxListArgs {
    /// Only events in this state
    #[arg(long, value_parser = ["waiting", "blocked", "parked", "published"])]
    pub(crate) state: Option<String>,
    /// Only events of this token or resource
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The largest number of events to list
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Start after the event with this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) after: i64,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxEventArgs {
    /// The event's id
    pub(crate) event_id: uuid::Uuid,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxRetryArgs {
    /// The token or resource whose events are retried
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Retry all keys that are blocked or parked
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxReplayArgs {
    /// Republish events written at this time or later, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: jiff::Timestamp,
    /// Republish events written before this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<jiff::Timestamp>,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the dead letters that were neither replayed nor dropped
    List(DlqListArgs),
    /// Show one dead letter: its headers, its value, and why it could not be applied
    Show(DlqLetterArgs),
    /// Deliver one dead letter, or all, to the consumer again
    #[command(after_help = "\
Examples:
  bespeak dlq replay ID
  bespeak dlq replay --all")]
    Replay(DlqReplayArgs),
    /// Drop one dead letter: its event is never applied
    Drop(DlqLetterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DlqListArgs {
    /// The largest number of dead letters to list
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Start after the dead letter with this id
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<DeadLetterId>,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DlqLetterArgs {
    /// The dead letter's id, as `dlq list` shows it
    pub(crate) id: DeadLetterId,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DlqReplayArgs {
    /// The dead letter's id, as `dlq list` shows it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<DeadLetterId>,
    /// Replay all dead letters that exist now
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}
