//! The options of `bespeak webhooks`, which sends requests to a running server.

use clap::{Args, Subcommand};

use super::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List webhook endpoints and their state: closed, open or half open (their circuit), or disabled
    List(WebhooksListArgs),
    /// Show one endpoint
    Show(WebhookArgs),
    /// Create an endpoint, and print its secret, which is not shown again
    #[command(after_help = "\
Examples:
  bespeak webhooks create --url https://shop.example.com/hooks
  bespeak webhooks create --url https://shop.example.com/hooks --event-type 'bespeak.stock.*' \
    --header authorization=@token.txt")]
    Create(WebhookCreateArgs),
    /// Change the URL, the event types or the headers of an endpoint; pending deliveries stay
    #[command(after_help = "\
Example:
  bespeak webhooks change ID --url https://new.example.com/hooks --header authorization=@token.txt")]
    Change(WebhookChangeArgs),
    /// Delete an endpoint and its deliveries
    Delete(WebhookArgs),
    /// Disable an endpoint: nothing is sent to it, and its events are kept
    Disable(WebhookArgs),
    /// Enable an endpoint: its circuit closes, and it gets the events that were kept
    Enable(WebhookArgs),
    /// Send a test event to an endpoint, and print the answer; the exit code is 1 if it is not 2xx
    Test(WebhookArgs),
    /// Rotate the secret of an endpoint, and print the new one; both sign for a day
    Rotate(WebhookRotateArgs),
    /// List the deliveries of an endpoint, the newest first
    #[command(after_help = "\
Example:
  bespeak webhooks deliveries ID --status FAILED")]
    Deliveries(WebhookDeliveriesArgs),
    /// Send one delivery again, whatever its status
    Redeliver(WebhookRedeliverArgs),
    /// Send the events of a span of time again, and those that the endpoint never had a delivery for
    ///
    /// A new endpoint gets the events from before it was created, as far as the outbox still has them.
    #[command(after_help = "\
Examples:
  bespeak webhooks replay ID --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z
  bespeak webhooks replay ID --since 2026-01-31T00:00:00Z --only-missing")]
    Replay(WebhookReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WebhooksListArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    /// The endpoint's id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookCreateArgs {
    /// The URL to which events are sent
    #[arg(long)]
    pub(crate) url: String,
    /// A type of events to send, or a prefix that ends in *; repeat it for several [default: all]
    #[arg(long = "event-type", value_name = "TYPE")]
    pub(crate) event_types: Vec<String>,
    /// A header to add to each delivery, as NAME=VALUE, or as NAME=@FILE, which keeps the value out of the list of
    /// processes; repeat it for several
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The idempotency key; a retry with the same key is safe for a day [default: a random key]
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookChangeArgs {
    /// The endpoint's id
    pub(crate) id: String,
    /// The URL to which events are sent from now on
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// A type of events to send from now on, or a prefix that ends in *; repeat it for several, and use * for all
    #[arg(long = "event-type", value_name = "TYPE")]
    pub(crate) event_types: Vec<String>,
    /// A header to add to each delivery from now on, as NAME=VALUE or NAME=@FILE, instead of the present ones
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Remove all headers
    #[arg(long, conflicts_with = "headers")]
    pub(crate) no_headers: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookRotateArgs {
    /// The endpoint's id
    pub(crate) id: String,
    /// How long the present secret signs beside the new one, in seconds; 0 ends all earlier ones [default: a day]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) overlap: Option<u64>,
    /// The idempotency key; a retry with the same key is safe [default: a random key]
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookDeliveriesArgs {
    /// The endpoint's id
    pub(crate) id: String,
    /// Only deliveries in this status
    #[arg(long, value_parser = ["PENDING", "DELIVERED", "FAILED"])]
    pub(crate) status: Option<String>,
    /// The largest number of deliveries to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// Start after the delivery with this id
    #[arg(long)]
    pub(crate) after: Option<u64>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookRedeliverArgs {
    /// The endpoint's id
    pub(crate) id: String,
    /// The delivery's id
    pub(crate) delivery: u64,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookReplayArgs {
    /// The endpoint's id
    pub(crate) id: String,
    /// Events at this time and later, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: jiff::Timestamp,
    /// Events before this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<jiff::Timestamp>,
    /// Only events that the endpoint has no delivery for
    #[arg(long)]
    pub(crate) only_missing: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE, such as authorization=@token.txt")?;
    let Some(file) = value.strip_prefix('@') else { return Ok((name.to_owned(), value.to_owned())) };
    let value = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok((name.to_owned(), value.trim_end().to_owned()))
}
