//! An HTTP client for one server. A problem response becomes a failure with the server's detail and slug.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A server, by its base URL, with a client for it.
pub(crate) struct Server {
    base: String,
    client: Client,
}

impl Server {
    /// Creates a client for a base URL without a slash at its end.
    pub(crate) fn new(base: String) -> Result<Self, Failure> {
        // It fails if a provider is already installed, and this process has only one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client =
            Client::builder().timeout(TIMEOUT).user_agent(concat!("bespeak/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // A proxy cannot reach this machine's loopback address.
            client = client.no_proxy();
        }
        let client =
            client.build().map_err(|error| Failure::caused("the HTTP client cannot be started", &error))?;
        Ok(Self { base, client })
    }

    /// Starts a request for a path of the server.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request and returns the JSON body of a successful response.
    ///
    /// # Errors
    /// The server cannot be reached, refused the request, or is not a Bespeak server.
    pub(crate) async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        self.succeeded(request).await?.json().await.map_err(|error| {
            Failure::caused(format!("{} did not return JSON; is it a Bespeak server?", self.base), &error)
        })
    }

    /// Sends a request whose successful response has no body.
    ///
    /// # Errors
    /// The server cannot be reached, or refused the request.
    pub(crate) async fn send_for_nothing(&self, request: RequestBuilder) -> Result<(), Failure> {
        self.succeeded(request).await.map(drop)
    }

    /// Sends a request and returns its successful response.
    async fn succeeded(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| {
            Failure::caused(
                format!("{} cannot be reached; is `bespeak serve` running there?", self.base),
                &error,
            )
        })?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }
}

/// The failure for a response that is not a success.
async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    match (problem["type"].as_str().map(str::to_owned), problem["detail"].as_str().map(str::to_owned)) {
        (Some(slug), Some(detail)) => {
            let next = problem["nextReleaseAt"].as_str().map(|at| format!("; the next hold expires at {at}"));
            let ended =
                problem["reservation"]["token"].as_str().map(|token| format!("; its token is {token}"));
            let hint = next.or(ended).unwrap_or_default();
            let message = format!("{detail}{hint} ({slug}, {})", status.as_u16());
            Failure::refused(message, problem)
        }
        _ => Failure::new(format!("the server returned {status}")),
    }
}

fn is_loopback(base: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Percent-encodes an id, so that it is one segment of a path.
pub fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}
