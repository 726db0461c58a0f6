//! The seller: defines the resource before the sale, and checks the server's books over the API afterwards.

use bespeak_lab::load::{Answer, Connection, Target};
use hyper::{Method, body::Bytes};
use serde::Serialize;
use serde_json::{Value, json};

use bespeak_cli::{Failure, segment};

/// How often the books are read if they change while they are read.
const READS_MAX: u32 = 5;

/// The server's books after the sale.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Books {
    /// The resource's total.
    pub(crate) total: u64,
    /// The resource's available units.
    pub(crate) available: u64,
    /// Units of winners' reservations that are HELD.
    pub(crate) held: u64,
    /// Units of winners' reservations that are COMMITTED.
    pub(crate) committed: u64,
    /// Whether available + held + committed = total, and every reservation has the status that its buyer received.
    pub(crate) balance: bool,
    /// The inconsistencies.
    pub(crate) problems: Vec<String>,
}

impl Books {
    pub(crate) fn text(&self) -> String {
        let Self { total, available, held, committed, balance, .. } = self;
        let sign = if *balance { "=" } else { "IS NOT" };
        format!("{available} available + {held} held + {committed} committed {sign} {total}")
    }
}

/// A reservation that a buyer received.
#[derive(Clone, Debug)]
pub(crate) struct Winner {
    pub(crate) token: String,
    /// The last status that the buyer received.
    pub(crate) status: String,
}

/// Defines the resource. An existing resource is changed only if all of its units are available.
pub(crate) async fn open(target: &Target, resource: &str, stock: u64) -> Result<(), Failure> {
    let mut connection = connect(target).await?;
    let path = format!("/api/v1/resources/{}", segment(resource));
    let found = send(&mut connection, Method::GET, &path, Bytes::new()).await?;
    if found.status.is_success() {
        let known = json_of(&found);
        let (available, total) = (known["availableStock"].as_u64(), known["totalStock"].as_u64());
        if available != total {
            return Err(Failure::usage(format!(
                "{resource} is in use: {} of {} units are available; choose another --resource",
                available.unwrap_or(0),
                total.unwrap_or(0)
            )));
        }
    }
    let body = json!({"resourceId": resource, "totalStock": stock}).to_string();
    ask(&mut connection, Method::POST, "/api/v1/resources", body.into()).await?;
    Ok(())
}

/// Reads the resource and every winner's reservation. Starts again if the resource changed meanwhile, such as by a
/// hold that expired.
pub(crate) async fn read(target: &Target, resource: &str, winners: &[Winner]) -> Result<Books, Failure> {
    let mut connection = connect(target).await?;
    let path = format!("/api/v1/resources/{}", segment(resource));
    let mut before = ask(&mut connection, Method::GET, &path, Bytes::new()).await?;
    for _ in 1..READS_MAX {
        let books = read_once(&mut connection, &before, winners).await?;
        let after = ask(&mut connection, Method::GET, &path, Bytes::new()).await?;
        if (&after["version"], &after["availableStock"]) == (&before["version"], &before["availableStock"]) {
            return Ok(books);
        }
        before = after;
    }
    read_once(&mut connection, &before, winners).await
}

async fn read_once(
    connection: &mut Connection,
    resource: &Value,
    winners: &[Winner],
) -> Result<Books, Failure> {
    let mut books = Books {
        total: resource["totalStock"].as_u64().unwrap_or(0),
        available: resource["availableStock"].as_u64().unwrap_or(0),
        ..Books::default()
    };
    for winner in winners {
        let path = format!("/api/v1/reservations/{}", winner.token);
        let found = ask(connection, Method::GET, &path, Bytes::new()).await?;
        let items = found["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let units: u64 = items.iter().filter_map(|item| item["quantity"].as_u64()).sum();
        let status = found["status"].as_str().unwrap_or("nothing");
        match status {
            "HELD" => books.held += units,
            "COMMITTED" => books.committed += units,
            _ => {}
        }
        if status != winner.status && !(winner.status == "HELD" && status == "EXPIRED") {
            books
                .problems
                .push(format!("{} is {status}, but its buyer received {}", winner.token, winner.status));
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

async fn send(
    connection: &mut Connection,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Answer, Failure> {
    let sent = connection.send(method, path, &[], body).await;
    sent.map_err(|error| Failure::caused(format!("{path} got no response"), &error))
}

async fn ask(connection: &mut Connection, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
    let answer = send(connection, method, path, body).await?;
    let json = json_of(&answer);
    if answer.status.is_success() {
        return Ok(json);
    }
    let detail = json["detail"].as_str().unwrap_or("no details");
    Err(Failure::new(format!("{path} failed with {}: {detail}", answer.status)))
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}
