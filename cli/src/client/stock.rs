//! `bespeak stock check`, `list` and `set`.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::http::{Server, segment};
use crate::{
    args::{CheckArgs, ListArgs, SetArgs},
    failure::Failure,
    output::{Output, card, table},
};

/// How many resources one request of a list returns.
const PAGE: usize = 1_000;

pub(super) async fn check(output: Output, args: CheckArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let path = format!("/api/v1/resources/{}", segment(&args.resource));
    let resource = server.send(server.request(Method::GET, &path)).await?;
    output.print(&resource, || resource_card(&resource))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn set(output: Output, args: SetArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let mut body = json!({"resourceId": args.resource, "totalStock": args.total});
    if let Some(fulfilment) = args.fulfilment {
        body["fulfilment"] = fulfilment.into();
    }
    let resource = server.send(server.request(Method::POST, "/api/v1/resources").json(&body)).await?;
    output.print(&resource, || resource_card(&resource))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(output: Output, args: ListArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let mut resources: Vec<Value> = Vec::new();
    let mut after = args.after;
    loop {
        let wanted = args.limit.map_or(PAGE, |limit| (limit - resources.len()).min(PAGE));
        if wanted == 0 {
            break;
        }
        let mut path = format!("/api/v1/resources?limit={wanted}");
        if let Some(after) = &after {
            path = format!("{path}&after={}", segment(after));
        }
        let page: Value = server.send(server.request(Method::GET, &path)).await?;
        resources.extend(page["resources"].as_array().cloned().unwrap_or_default());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    output.print(&resources, || {
        let mut rows = table(&["resource", "available", "total", "version", "updated"]);
        for resource in &resources {
            rows.add_row(
                ["resourceId", "availableStock", "totalStock", "version", "updatedAt"]
                    .map(|f| text(&resource[f])),
            );
        }
        rows.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn resource_card(resource: &Value) -> String {
    let (available, total) = (resource["availableStock"].as_u64(), resource["totalStock"].as_u64());
    let (available, total) = (available.unwrap_or(0), total.unwrap_or(0));
    #[expect(clippy::cast_precision_loss, reason = "a percentage, for people")]
    let share = if total == 0 { 0.0 } else { available as f64 * 100.0 / total as f64 };
    card(&[
        ("resource", text(&resource["resourceId"])),
        ("available", format!("{available} / {total} ({share:.0} %)")),
        ("version", text(&resource["version"])),
        ("updated", text(&resource["updatedAt"])),
    ])
}

/// A JSON value as text; a string without its quotes.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
