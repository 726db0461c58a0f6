//! Metrics of HTTP requests and connections.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// Counts an answered request, and records its duration.
pub fn count_request(method: &str, route: &str, status: u16, took: Duration) {
    // A client may invent methods, and the number of series must stay small.
    let known = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method);
    let method = known.unwrap_or("other").to_owned();
    let labels = [("method", method), ("route", route.to_owned()), ("status", status.to_string())];
    counter!("bespeak_http_requests_total", &labels).increment(1);
    histogram!("bespeak_http_request_seconds", "route" => route.to_owned()).record(took);
}

/// Why the listener ended a connection.
#[derive(Clone, Copy, Debug)]
pub enum ClosedConnection {
    /// It was beyond the largest number of connections, and got one answer.
    Limit,
    /// It was idle while others lacked its place.
    Idle,
    /// Its client took too long to send the head of a request.
    SlowHead,
    /// Its client took too long to receive an answer.
    SlowReader,
}

/// Counts a connection that the listener ended.
pub fn count_closed_connection(reason: ClosedConnection) {
    let reason = match reason {
        ClosedConnection::Limit => "limit",
        ClosedConnection::Idle => "idle",
        ClosedConnection::SlowHead => "slow_head",
        ClosedConnection::SlowReader => "slow_reader",
    };
    counter!("bespeak_http_connections_closed_total", "reason" => reason).increment(1);
}

/// An open connection, which is counted until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(());

impl OpenConnection {
    /// Counts a connection.
    pub fn count() -> Self {
        gauge!("bespeak_http_connections").increment(1.0);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("bespeak_http_connections").decrement(1.0);
    }
}
