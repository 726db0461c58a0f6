//! The command line.

use std::path::PathBuf;

use bespeak::store::DeadLetterId;
use clap::{Args, Parser, Subcommand};

use crate::server_flags::ServerFlags;

/// Reservation engine: holds limited stock for a while, then commits, releases or expires it, without overselling.
#[derive(Debug, Parser)]
#[command(name = "bespeak", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole engine in one process: HTTP API, expiry timer, embedded database.
    Serve(ServerFlags),
    /// Print every setting with its value, where that comes from, and what it means.
    Config(ServerFlags),
    /// Bring the database's schema to this version; `serve` does so by itself.
    Migrate(MigrateArgs),
    /// Audit a database: nothing oversold, all or nothing, one winner, every change with its event.
    Verify(VerifyArgs),
    /// Look after the outbox: what waits, what failed and why; try again, skip, send again.
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Look after dead letters: events that no consumer could apply.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Run a flash sale against a server and check that the books balance; needs the program `bespeak-lab`.
    #[command(disable_help_flag = true)]
    Simulate(LabProgramArgs),
    /// Compare the locking strategies under the same load; needs the program `bespeak-lab`.
    #[command(disable_help_flag = true)]
    Lab(LabProgramArgs),
    /// Print the description of the events that are published, as an AsyncAPI document.
    Asyncapi(AsyncapiArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// What `bespeak-lab` receives as it is.
#[derive(Debug, Args)]
pub(crate) struct LabProgramArgs {
    /// Options of the lab's program; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct AsyncapiArgs {
    /// Write the JSON Schema of each payload into this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) schemas: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Create the database first, if it is not there; the account must be allowed to
    #[arg(long)]
    pub(crate) create_database: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Audit the way of events too: the outbox against the event log, its order, the SmartKeys
    #[arg(long)]
    pub(crate) events: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// List events in the order in which they were written.
    List(OutboxListArgs),
    /// Show one event.
    Show(OutboxEventArgs),
    /// Have keys tried again now that failed: one, or all.
    Retry(OutboxRetryArgs),
    /// Give an event up: it is never published, and its key goes on.
    Skip(OutboxEventArgs),
    /// Publish events again that were published; consumers know them by their ids.
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
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Start after this number
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
    /// The token or resource whose events are tried again
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// All that are blocked or parked
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxReplayArgs {
    /// Events from this time on, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: jiff::Timestamp,
    /// Events before this time; until now where not given
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<jiff::Timestamp>,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters that were neither replayed nor dropped.
    List(DlqListArgs),
    /// Show one with its headers, its value, and why it could not be applied.
    Show(DlqLetterArgs),
    /// Hand one, or all, to the consumer again.
    Replay(DlqReplayArgs),
    /// Forget one.
    Drop(DlqLetterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DlqListArgs {
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Start after this one
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<DeadLetterId>,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DlqLetterArgs {
    /// The letter's id, as `dlq list` shows it
    pub(crate) id: DeadLetterId,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DlqReplayArgs {
    /// The letter's id, as `dlq list` shows it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<DeadLetterId>,
    /// All that are there now
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

/// Commands that talk to a running server.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Look at resources, set their totals, import them from CSV.
    #[command(subcommand)]
    Stock(StockCommand),
    /// Hold units for a while.
    Reserve(ReserveArgs),
    /// Make a hold final.
    Commit(TokenArgs),
    /// Give a hold back.
    Release(TokenArgs),
    /// Lengthen a hold.
    Extend(ExtendArgs),
    /// Give a committed reservation back.
    Cancel(TokenArgs),
    /// Show a reservation.
    Show(TokenArgs),
    /// Ask a server whether it serves requests; exit code 1 where it does not.
    Health(HealthArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Only whether it runs, also where its database is away
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StockCommand {
    /// Show one resource.
    Check(CheckArgs),
    /// List resources in id order.
    List(ListArgs),
    /// Create a resource, or set its total.
    Set(SetArgs),
    /// Create and change many resources from CSV: `resource_id,total_stock`, `#` for comments.
    Import(ImportArgs),
}

/// Which server.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's base URL [env: BESPEAK_SERVER_URL, OPENRESERVE_SERVER_URL] [default: <http://127.0.0.1:8080>]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

impl ServerArgs {
    /// The flag, or the environment, or the default; without a slash at the end.
    pub(crate) fn url(&self) -> String {
        self.server
            .clone()
            .or_else(|| {
                ["BESPEAK_SERVER_URL", "OPENRESERVE_SERVER_URL"]
                    .iter()
                    .find_map(|name| std::env::var(name).ok())
            })
            .unwrap_or_else(|| "http://127.0.0.1:8080".to_owned())
            .trim_end_matches('/')
            .to_owned()
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The resource's id
    #[arg(long, short)]
    pub(crate) resource: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// At most so many; all where not given
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Start after this id
    #[arg(long)]
    pub(crate) after: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The resource's id
    #[arg(long, short)]
    pub(crate) resource: String,
    /// Units in all, held and committed ones included
    #[arg(long, short)]
    pub(crate) total: u64,
    /// What a commit sets off; left as it is where not given
    #[arg(long, value_parser = ["NONE", "SMART_KEY"])]
    pub(crate) fulfilment: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The CSV file; `-` reads standard input
    #[arg(long, short)]
    pub(crate) file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReserveArgs {
    /// The resource's id
    #[arg(long, short, required_unless_present = "items")]
    pub(crate) resource: Option<String>,
    /// How many units of it
    #[arg(long, short, default_value_t = 1)]
    pub(crate) quantity: u64,
    /// A resource and how many units of it, as ID=N; again for more, all or nothing
    #[arg(long = "item", value_name = "ID=N", conflicts_with_all = ["resource", "quantity"], value_parser = item)]
    pub(crate) items: Vec<(String, u64)>,
    /// For how long, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
    /// On whose behalf
    #[arg(long)]
    pub(crate) holder: Option<String>,
    /// A JSON object to attach
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) metadata: Option<serde_json::Value>,
    /// The idempotency key: give the same one to retry safely; a random one where not given
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The reservation's token
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// The reservation's token
    pub(crate) token: String,
    /// Counted from now, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: u64,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn item(text: &str) -> Result<(String, u64), String> {
    let (id, quantity) = text.rsplit_once('=').ok_or("must be ID=N, such as room-101=2")?;
    let quantity = quantity.parse().map_err(|_| "the quantity after = must be a whole number")?;
    Ok((id.to_owned(), quantity))
}

fn json_object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
