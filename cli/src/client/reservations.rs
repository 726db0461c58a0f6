//! `bespeak reserve`, `commit`, `release`, `extend`, `cancel` and `show`.

use std::{collections::BTreeMap, process::ExitCode};

use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    http::{Server, segment},
    stock::text,
};
use crate::{
    args::{ExtendArgs, ReserveArgs, TokenArgs},
    failure::Failure,
    output::{Output, card},
};

pub(super) async fn reserve(output: Output, args: ReserveArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let mut body = if args.items.is_empty() {
        json!({"resourceId": args.resource, "quantity": args.quantity})
    } else {
        let items = args.items.iter().map(|(id, quantity)| json!({"resourceId": id, "quantity": quantity}));
        json!({"items": items.collect::<Vec<_>>()})
    };
    for (field, value) in
        [("ttlSeconds", args.ttl.map(Value::from)), ("holder", args.holder.map(Value::from))]
    {
        if let Some(value) = value {
            body[field] = value;
        }
    }
    let body = ReserveBody { fields: body, metadata: args.metadata };
    let key = args.key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let request = server.request(Method::POST, "/api/v1/reserve").header("Idempotency-Key", key).json(&body);
    print(output, server.send(request).await?)
}

pub(super) async fn act(output: Output, verb: &str, args: TokenArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let request =
        server.request(Method::POST, &format!("/api/v1/{verb}")).json(&json!({"token": args.token}));
    print(output, server.send(request).await?)
}

pub(super) async fn extend(output: Output, args: ExtendArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let body = json!({"token": args.token, "ttlSeconds": args.ttl});
    print(output, server.send(server.request(Method::POST, "/api/v1/extend").json(&body)).await?)
}

pub(super) async fn show(output: Output, args: TokenArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let path = format!("/api/v1/reservations/{}", segment(&args.token));
    print(output, server.send(server.request(Method::GET, &path)).await?)
}

/// A reserve. Metadata stays text, because a parsed number would be rounded.
#[derive(Serialize)]
struct ReserveBody {
    #[serde(flatten)]
    fields: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

/// The fields of a reservation as the server sent them.
type Reservation = BTreeMap<String, Box<RawValue>>;

fn print(output: Output, reservation: Reservation) -> Result<ExitCode, Failure> {
    output.print(&reservation, || {
        let field = |name: &str| -> Value {
            let raw = reservation.get(name).map_or("null", |raw| raw.get());
            serde_json::from_str(raw).unwrap_or_default()
        };
        let items = field("items");
        let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
        let items: Vec<String> = items
            .iter()
            .map(|item| format!("{} x {}", text(&item["quantity"]), text(&item["resourceId"])))
            .collect();
        let mut rows = vec![
            ("token", text(&field("token"))),
            ("status", text(&field("status"))),
            ("items", items.join("\n")),
            ("expires", text(&field("expiresAt"))),
            ("created", text(&field("createdAt"))),
            ("version", text(&field("version"))),
        ];
        if reservation.contains_key("holder") {
            rows.push(("holder", text(&field("holder"))));
        }
        if let Some(metadata) = reservation.get("metadata") {
            rows.push(("metadata", metadata.get().to_owned()));
        }
        card(&rows)
    })?;
    Ok(ExitCode::SUCCESS)
}
