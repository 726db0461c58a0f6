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
        let client = Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("bespeak/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::caused("the HTTP client cannot be started", &error))?;
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
    match (problem["type"].as_str(), problem["detail"].as_str()) {
        (Some(slug), Some(detail)) => {
            let hint = problem["nextReleaseAt"].as_str().map(|at| format!("; the next hold ends at {at}"));
            Failure::new(format!("{detail}{} ({slug}, {})", hint.unwrap_or_default(), status.as_u16()))
        }
        _ => Failure::new(format!("the server answered {status}")),
    }
}

/// An id as a path segment.
pub(crate) fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}
