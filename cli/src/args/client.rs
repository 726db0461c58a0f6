//! The options of the client commands, which send requests to a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::value::RawValue;

use super::WebhooksCommand;

/// The commands that send requests to a running server.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Show and list resources, set their totals, import them from CSV
    #[command(subcommand)]
    Stock(StockCommand),
    /// Hold units for a limited time
    ///
    /// Prints the reservation with the token that the other commands need. A hold that is neither committed nor
    /// released expires.
    #[command(after_help = "\
Examples:
  bespeak reserve -r room-101 -q 2 --key order-17
  bespeak reserve --item seat-1=1 --item seat-2=1 --ttl 600 --holder ann")]
    Reserve(ReserveArgs),
    /// Commit a hold: make it final
    Commit(TokenArgs),
    /// Release a hold: give its units back
    Release(TokenArgs),
    /// Extend a hold: let it expire later
    Extend(ExtendArgs),
    /// Cancel a committed reservation: give its units back
    Cancel(TokenArgs),
    /// Show a reservation
    Show(TokenArgs),
    /// Manage webhook endpoints, and send their events again
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Check that a server is ready for requests; the exit code is 1 if it is not
    Health(HealthArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Check only that the process is running, even if it cannot reach its database
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StockCommand {
    /// Show one resource
    Check(CheckArgs),
    /// List resources, sorted by id
    List(ListArgs),
    /// Create a resource, or change its total
    #[command(after_help = "\
Example:
  bespeak stock set -r room-101 -t 3")]
    Set(SetArgs),
    /// Create and change many resources from a CSV file
    ///
    /// Each line is `resource_id,total_stock`. Lines that begin with `#` are comments, and a header line is allowed.
    /// Invalid lines are refused by number, and the others are imported; the exit code is then 1.
    #[command(after_help = "\
Examples:
  bespeak stock import --file stock.csv --dry-run
  zcat stock.csv.gz | bespeak stock import --file -")]
    Import(ImportArgs),
}

/// The server that a command sends its requests to.
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
    /// The largest number of resources to list [default: all]
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Start after the resource with this id
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
    /// The total number of units, held and committed ones included
    #[arg(long, short)]
    pub(crate) total: u64,
    /// What a commit triggers: nothing, or a SmartKey [default: unchanged]
    #[arg(long, value_parser = ["NONE", "SMART_KEY"])]
    pub(crate) fulfilment: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The CSV file; - reads standard input
    #[arg(long, short)]
    pub(crate) file: PathBuf,
    /// Show what would change without changing anything
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
    /// The number of units
    #[arg(long, short, default_value_t = 1)]
    pub(crate) quantity: u64,
    /// A resource and a number of units, as ID=N; repeat it to hold several resources, all or nothing
    #[arg(long = "item", value_name = "ID=N", conflicts_with_all = ["resource", "quantity"], value_parser = item)]
    pub(crate) items: Vec<(String, u64)>,
    /// How long the hold lasts, in seconds [default: BESPEAK_TTL_DEFAULT_SECONDS of the server]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
    /// The customer on whose behalf the units are held
    #[arg(long)]
    pub(crate) holder: Option<String>,
    /// A JSON object to store with the reservation
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// The idempotency key; a retry with the same key is safe [default: a random key]
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
    /// The new time to live, in seconds from now
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

/// Checks that text is a JSON object, and keeps it as it is: a parsed number would be rounded.
fn json_object(text: &str) -> Result<Box<RawValue>, String> {
    match serde_json::from_str::<Box<RawValue>>(text) {
        Ok(value) if value.get().starts_with('{') => Ok(value),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
