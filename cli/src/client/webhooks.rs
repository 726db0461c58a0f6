//! `bespeak webhooks`.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    http::{Server, segment},
    stock::text,
};
use crate::{
    args::{
        ServerArgs, WebhookChangeArgs, WebhookCreateArgs, WebhookDeliveriesArgs, WebhookReplayArgs,
        WebhookRotateArgs, WebhooksCommand, WebhooksListArgs,
    },
    failure::Failure,
    output::{Output, card, counted, table},
};

/// How many endpoints one request of a list returns.
const PAGE: usize = 1_000;
/// The pause before a request is repeated that found too many others under way.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How often such a request is repeated.
const BUSY_TRIES: u32 = 30;

/// Runs a command on webhooks.
pub(super) async fn run(output: Output, command: WebhooksCommand) -> Result<ExitCode, Failure> {
    match command {
        WebhooksCommand::List(args) => list(output, args).await,
        WebhooksCommand::Create(args) => create(output, args).await,
        WebhooksCommand::Change(args) => change(output, args).await,
        WebhooksCommand::Rotate(args) => rotate(output, args).await,
        WebhooksCommand::Deliveries(args) => deliveries(output, args).await,
        WebhooksCommand::Replay(args) => replay(output, args).await,
        WebhooksCommand::Show(args) => {
            let shown = act(&args.server, Method::GET, &args.id, "", None).await?;
            print(output, &shown)
        }
        WebhooksCommand::Disable(args) => {
            print(output, &act(&args.server, Method::POST, &args.id, "/disable", None).await?)
        }
        WebhooksCommand::Enable(args) => {
            print(output, &act(&args.server, Method::POST, &args.id, "/enable", None).await?)
        }
        WebhooksCommand::Delete(args) => {
            let server = Server::new(args.server.url())?;
            server.send_for_nothing(server.request(Method::DELETE, &path(&args.id, ""))).await?;
            output.print(&json!({"id": args.id}), || format!("{} is deleted", args.id))?;
            Ok(ExitCode::SUCCESS)
        }
        WebhooksCommand::Test(args) => {
            let tested = act(&args.server, Method::POST, &args.id, "/test", None).await?;
            output.print(&tested, || {
                card(&[
                    ("event", text(&tested["eventId"])),
                    ("delivered", text(&tested["delivered"])),
                    ("status", or_dash(&tested["status"])),
                    ("error", or_dash(&tested["error"])),
                    ("took", format!("{} ms", tested["tookMs"])),
                    ("body", or_dash(&tested["body"])),
                ])
            })?;
            Ok(if tested["delivered"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        WebhooksCommand::Redeliver(args) => {
            let rest = format!("/deliveries/{}/redeliver", args.delivery);
            let again = act(&args.server, Method::POST, &args.id, &rest, None).await?;
            output.print(&again, || format!("delivery {} is pending again", args.delivery))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/api/v1/webhooks/{}{rest}", segment(id))
}

/// Sends a request about one endpoint.
async fn act(
    server: &ServerArgs,
    method: Method,
    id: &str,
    rest: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let server = Server::new(server.url())?;
    let request = server.request(method, &path(id, rest));
    server
        .send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
}

fn print(output: Output, webhook: &Value) -> Result<ExitCode, Failure> {
    output.print(webhook, || {
        let mut rows = vec![
            ("id", text(&webhook["id"])),
            ("url", text(&webhook["url"])),
            ("events", patterns(webhook)),
            ("headers", joined(&webhook["headerNames"])),
            ("state", state(webhook)),
            ("reason", or_dash(&webhook["disabledReason"])),
            ("failures", text(&webhook["health"]["consecutiveFailures"])),
            ("failing since", or_dash(&webhook["health"]["failingSince"])),
            ("next probe", or_dash(&webhook["health"]["nextProbeAt"])),
        ];
        if webhook["secret"].is_string() {
            rows.push(("secret", text(&webhook["secret"])));
        }
        card(&rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(output: Output, args: WebhooksListArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let mut webhooks: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = format!("/api/v1/webhooks?limit={PAGE}{after}");
        let page: Value = server.send(server.request(Method::GET, &page)).await?;
        webhooks.extend(page["webhooks"].as_array().cloned().unwrap_or_default());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", segment(next));
    }
    output.print(&webhooks, || {
        let mut rows = table(&["id", "url", "events", "state", "failing since", "reason"]);
        for webhook in &webhooks {
            rows.add_row([
                text(&webhook["id"]),
                text(&webhook["url"]),
                patterns(webhook),
                state(webhook),
                or_dash(&webhook["health"]["failingSince"]),
                or_dash(&webhook["disabledReason"]),
            ]);
        }
        rows.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn create(output: Output, args: WebhookCreateArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let headers: BTreeMap<_, _> = args.headers.into_iter().collect();
    let body = json!({"url": args.url, "eventTypes": args.event_types, "headers": headers});
    let key = args.key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let request = server.request(Method::POST, "/api/v1/webhooks").header("Idempotency-Key", key);
    print(output, &server.send::<Value>(request.json(&body)).await?)
}

async fn change(output: Output, args: WebhookChangeArgs) -> Result<ExitCode, Failure> {
    let mut body = json!({});
    if let Some(url) = args.url {
        body["url"] = url.into();
    }
    if !args.event_types.is_empty() {
        body["eventTypes"] = args.event_types.into();
    }
    if args.no_headers || !args.headers.is_empty() {
        body["headers"] = json!(args.headers.into_iter().collect::<BTreeMap<_, _>>());
    }
    print(output, &act(&args.server, Method::PATCH, &args.id, "", Some(&body)).await?)
}

async fn rotate(output: Output, args: WebhookRotateArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let mut body = json!({});
    if let Some(seconds) = args.overlap {
        body["overlapSeconds"] = seconds.into();
    }
    let key = args.key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let request = server.request(Method::POST, &path(&args.id, "/rotate")).header("Idempotency-Key", key);
    print(output, &server.send::<Value>(request.json(&body)).await?)
}

async fn deliveries(output: Output, args: WebhookDeliveriesArgs) -> Result<ExitCode, Failure> {
    let mut rest = format!("/deliveries?limit={}", args.limit);
    if let Some(status) = args.status {
        rest = format!("{rest}&status={status}");
    }
    if let Some(after) = args.after {
        rest = format!("{rest}&after={after}");
    }
    let page = act(&args.server, Method::GET, &args.id, &rest, None).await?;
    output.print(&page, || {
        let mut rows = table(&["id", "event", "type", "status", "attempts", "next attempt", "last error"]);
        for delivery in page["deliveries"].as_array().into_iter().flatten() {
            rows.add_row(
                ["id", "eventId", "eventType", "status", "attempts", "nextAttemptAt", "lastError"]
                    .map(|field| or_dash(&delivery[field])),
            );
        }
        rows.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn replay(output: Output, args: WebhookReplayArgs) -> Result<ExitCode, Failure> {
    let until = args.until.unwrap_or_else(jiff::Timestamp::now);
    if until <= args.since {
        return Err(Failure::usage(format!("--until {until} must be after --since {}", args.since)));
    }
    let server = Server::new(args.server.url())?;
    let mut body = json!({"from": args.since, "to": until, "onlyMissing": args.only_missing});
    let (mut deliveries, mut enqueued, mut busy) = (0, 0, 0);
    loop {
        let request = server.request(Method::POST, &path(&args.id, "/replay")).json(&body);
        let page: Value = match server.send(request).await {
            Err(failure) if failure.slug() == Some("webhook-busy") && busy < BUSY_TRIES => {
                busy += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            page => page?,
        };
        deliveries += page["deliveries"].as_u64().unwrap_or(0);
        enqueued += page["enqueued"].as_u64().unwrap_or(0);
        if page["next"].is_null() {
            break;
        }
        body["after"] = page["next"].clone();
    }
    output.print(&json!({"deliveries": deliveries, "enqueued": enqueued}), || {
        format!(
            "{}; {}",
            counted(deliveries, "delivery is pending again", "deliveries are pending again"),
            counted(enqueued, "missing event is enqueued", "missing events are enqueued"),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The state of an endpoint in one word.
fn state(webhook: &Value) -> String {
    let full = if webhook["health"]["full"] == true { ", full" } else { "" };
    let state = match webhook["health"]["circuit"].as_str() {
        _ if webhook["enabled"] != true => "disabled",
        Some("OPEN") => "open",
        Some("HALF_OPEN") => "half open",
        _ => "closed",
    };
    format!("{state}{full}")
}

fn patterns(webhook: &Value) -> String {
    let patterns = joined(&webhook["eventTypes"]);
    if patterns == "-" { "*".to_owned() } else { patterns }
}

fn joined(list: &Value) -> String {
    let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(" ") }
}

fn or_dash(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { text(value) }
}
