//! The seller's side: opens the sale, and reads the books back over the API when it is over.

use bespeak_load::{Answer, Connection, Target};
use hyper::{Method, body::Bytes};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{client::segment, failure::Failure};

/// What the server's books say after the sale.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Books {
    /// Units in all.
    pub(crate) total: u64,
    /// Units that the server says are available.
    pub(crate) available: u64,
    /// Units of winners' reservations that are HELD.
    pub(crate) held: u64,
    /// Units of winners' reservations that are COMMITTED.
    pub(crate) committed: u64,
    /// Whether available + held + committed = total.
    pub(crate) balance: bool,
    /// What does not add up.
    pub(crate) problems: Vec<String>,
}

impl Books {
    pub(crate) fn text(&self) -> String {
        let Self { total, available, held, committed, balance, .. } = self;
        let sign = if *balance { "=" } else { "IS NOT" };
        format!("{available} available + {held} held + {committed} committed {sign} {total}")
    }
}

/// A reservation that a buyer was told they have.
#[derive(Clone, Debug)]
pub(crate) struct Winner {
    pub(crate) token: String,
    /// The status that the buyer was last told.
    pub(crate) status: String,
}

/// Puts the units on sale; the resource must not be in use.
pub(crate) async fn open(target: &Target, resource: &str, stock: u64) -> Result<(), Failure> {
    let mut connection = connect(target).await?;
    let body = json!({"resourceId": resource, "totalStock": stock}).to_string();
    let defined = ask(&mut connection, Method::POST, "/api/v1/resources", body.into()).await?;
    let available = defined["availableStock"].as_u64();
    if available == Some(stock) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{resource} is in use: {} of {stock} are available; name another --resource",
        available.unwrap_or(0)
    )))
}

/// Reads the resource and every winner's reservation back.
pub(crate) async fn read(target: &Target, resource: &str, winners: &[Winner]) -> Result<Books, Failure> {
    let mut connection = connect(target).await?;
    let path = format!("/api/v1/resources/{}", segment(resource));
    let found = ask(&mut connection, Method::GET, &path, Bytes::new()).await?;
    let mut books = Books {
        total: found["totalStock"].as_u64().unwrap_or(0),
        available: found["availableStock"].as_u64().unwrap_or(0),
        ..Books::default()
    };
    for winner in winners {
        let path = format!("/api/v1/reservations/{}", winner.token);
        let found = ask(&mut connection, Method::GET, &path, Bytes::new()).await?;
        let units: u64 = found["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(|item| item["quantity"].as_u64())
            .sum();
        match found["status"].as_str() {
            Some("HELD") => books.held += units,
            Some("COMMITTED") => books.committed += units,
            _ => {}
        }
        let status = found["status"].as_str().unwrap_or("nothing");
        if status != winner.status && !(winner.status == "HELD" && status == "EXPIRED") {
            books.problems.push(format!("{} was told {} and is {status}", winner.token, winner.status));
        }
    }
    if books.available + books.held + books.committed != books.total {
        books.problems.push(books.text());
    }
    books.balance = books.problems.is_empty();
    Ok(books)
}

async fn connect(target: &Target) -> Result<Connection, Failure> {
    target.connect().await.map_err(|error| Failure::caused("the server cannot be reached", &error))
}

async fn ask(connection: &mut Connection, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
    let Answer { status, body, .. } = connection
        .send(method, path, &[], body)
        .await
        .map_err(|error| Failure::caused(format!("{path} got no answer"), &error))?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(json);
    }
    Err(Failure::new(format!(
        "{path} was answered {status}: {}",
        json["detail"].as_str().unwrap_or("no details")
    )))
}
