//! `bespeak reserve`, `commit`, `release`, `extend`, `cancel` and `show`.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};
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
    for (field, value) in [
        ("ttlSeconds", args.ttl.map(Value::from)),
        ("holder", args.holder.map(Value::from)),
        ("metadata", args.metadata),
    ] {
        if let Some(value) = value {
            body[field] = value;
        }
    }
    let key = args.key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let request = server.request(Method::POST, "/api/v1/reserve").header("Idempotency-Key", key).json(&body);
    print(output, &server.send(request).await?)
}

pub(super) async fn act(output: Output, verb: &str, args: TokenArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let request =
        server.request(Method::POST, &format!("/api/v1/{verb}")).json(&json!({"token": args.token}));
    print(output, &server.send(request).await?)
}

pub(super) async fn extend(output: Output, args: ExtendArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let body = json!({"token": args.token, "ttlSeconds": args.ttl});
    print(output, &server.send(server.request(Method::POST, "/api/v1/extend").json(&body)).await?)
}

pub(super) async fn show(output: Output, args: TokenArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let path = format!("/api/v1/reservations/{}", segment(&args.token));
    print(output, &server.send(server.request(Method::GET, &path)).await?)
}

fn print(output: Output, reservation: &Value) -> Result<ExitCode, Failure> {
    output.print(reservation, || {
        let items = reservation["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let items: Vec<String> = items
            .iter()
            .map(|item| format!("{} x {}", text(&item["quantity"]), text(&item["resourceId"])))
            .collect();
        let mut rows = vec![
            ("token", text(&reservation["token"])),
            ("status", text(&reservation["status"])),
            ("items", items.join("\n")),
            ("expires", text(&reservation["expiresAt"])),
            ("created", text(&reservation["createdAt"])),
            ("version", text(&reservation["version"])),
        ];
        for (name, field) in [("holder", "holder"), ("metadata", "metadata")] {
            if !reservation[field].is_null() {
                rows.push((name, text(&reservation[field])));
            }
        }
        card(&rows)
    })?;
    Ok(ExitCode::SUCCESS)
}
