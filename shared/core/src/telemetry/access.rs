//! The access log: one line of JSON for each answered request.
//!
//! Never: a path, a token or a key. A line has the template of the route, so it can be kept and shared.

use std::{io::Write, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::{engine::Timestamp, trace::RequestContext};

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// The method.
    pub method: &'a str,
    /// The template of the path, such as `/api/v1/resources/{id}`; `unmatched` if no route has it.
    pub route: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// The time from the head of the request to the answer.
    pub took: Duration,
    /// The address of the client, or of the proxy in front; `None` if the request came through no socket.
    pub peer: Option<SocketAddr>,
    /// The ids of the request.
    pub context: &'a RequestContext,
}

/// The line, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    timestamp: Timestamp,
    level: &'static str,
    target: &'static str,
    method: &'a str,
    route: &'a str,
    status: u16,
    took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    request_id: &'a str,
    trace_id: String,
}

/// Writes a line to standard error, whatever the format of other log lines.
pub fn write_access_line(line: AccessLine<'_>) {
    // If standard error is closed, the line is lost, and the request has its answer.
    let _ = std::io::stderr().lock().write_all(text(line, Timestamp::now()).as_bytes());
}

fn text(line: AccessLine<'_>, timestamp: Timestamp) -> String {
    let written = Written {
        timestamp,
        level: "INFO",
        target: "access",
        method: line.method,
        route: line.route,
        status: line.status,
        // Microseconds are exact enough.
        took_ms: (line.took.as_secs_f64() * 1e6).round() / 1e3,
        peer: line.peer,
        request_id: &line.context.request_id,
        trace_id: line.context.trace.trace_id().to_string(),
    };
    // Strings and numbers can always be written as JSON.
    serde_json::to_string(&written).map_or_else(|_| String::new(), |line| line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceContext;

    #[test]
    fn a_line_is_json_and_escapes_what_clients_choose() {
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let line = text(
            AccessLine {
                method: "GE\"T",
                route: "/api/v1/reservations/{token}",
                status: 200,
                took: Duration::from_micros(1_234),
                peer: Some("127.0.0.1:9".parse().unwrap()),
                context: &RequestContext { trace, request_id: r#"a"b"#.into() },
            },
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let seen: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "target": "access", "method": "GE\"T",
            "route": "/api/v1/reservations/{token}", "status": 200, "took_ms": 1.234, "peer": "127.0.0.1:9",
            "request_id": "a\"b", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        });
        assert_eq!(seen, expected);
    }
}
