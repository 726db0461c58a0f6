//! One server, asked over HTTP. A problem becomes a failure that says what the server said.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A server.
pub(crate) struct Server {
    base: String,
    client: Client,
}

impl Server {
    /// A server by its base URL.
    pub(crate) fn new(base: String) -> Result<Self, Failure> {
        // The first to set the process's cryptography wins; there is only one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client =
            Client::builder().timeout(TIMEOUT).user_agent(concat!("bespeak/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // No proxy reaches what is on this machine.
            client = client.no_proxy();
        }
        let client =
            client.build().map_err(|error| Failure::caused("the HTTP client cannot be started", &error))?;
        Ok(Self { base, client })
    }

    /// A request to a path of the server.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request and reads the JSON of a success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = request.send().await.map_err(|error| {
            Failure::caused(
                format!("{} cannot be asked; is `bespeak serve` running there?", self.base),
                &error,
            )
        })?;
        if response.status().is_success() {
            return response.json().await.map_err(|error| {
                Failure::caused(format!("{} answered something that is not Bespeak's", self.base), &error)
            });
        }
        Err(refusal(response).await)
    }
}

async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    match (problem["type"].as_str().map(str::to_owned), problem["detail"].as_str().map(str::to_owned)) {
        (Some(slug), Some(detail)) => {
            let hint = problem["nextReleaseAt"].as_str().map(|at| format!("; the next hold ends at {at}"));
            let message = format!("{detail}{} ({slug}, {})", hint.unwrap_or_default(), status.as_u16());
            Failure::refused(message, problem)
        }
        _ => Failure::new(format!("the server answered {status}")),
    }
}

fn is_loopback(base: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An id as a path segment.
pub fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}
