//! The API in this process: requests go to the router, without a socket.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{Router, body::Body};
use bespeak::{
    app::{Access, App, open_store},
    config::{Config, Values},
    store::FixedClock,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Books, Client, contract};

/// An engine and its API, on books of one test.
pub struct Api {
    /// The engine, for calls that are not part of HTTP.
    pub app: Arc<App>,
    /// The router of the API.
    pub router: Router,
    /// The books of the engine.
    pub books: Books,
    /// The configuration of the engine.
    pub config: Config,
    /// Whether the engine accepts more than the contract says, for clients of OpenReserve.
    lenient: bool,
}

/// An answer of the router.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Reply {
    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The status and the problem's type.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        (self.status.as_u16(), self.json()["type"].as_str().expect("a type").to_owned())
    }
}

impl Api {
    /// Starts an engine with default settings, on the clock of the database.
    pub async fn start(books: Books) -> Self {
        Self::with(books, &[], None).await
    }

    /// Starts an engine with default settings, on a fixed clock.
    pub async fn at(books: Books, clock: &FixedClock) -> Self {
        Self::with(books, &[], Some(clock)).await
    }

    /// Starts an engine with these settings, on a fixed clock if one is given.
    pub async fn with(books: Books, settings: &[(&str, &str)], clock: Option<&FixedClock>) -> Self {
        let url = books.url();
        let values = Values::collect(
            |asked| settings.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned()),
            |asked| (asked == "BESPEAK_DATABASE_URL").then(|| url.clone()),
        );
        let config = Config::parse(&values).expect("valid settings");
        let store = match clock {
            Some(_) => books.open(clock, config.strategy.guard()).await,
            None => open_store(&config, Access::Serve).await.expect("opened"),
        };
        store.migrate().await.expect("migrated");
        let app = Arc::new(App::start(store, &config));
        let lenient = settings.iter().any(|(name, _)| *name == "BESPEAK_COMPAT");
        Self { router: bespeak_http::router(app.clone(), config.http.clone()), app, books, config, lenient }
    }

    /// Sends a request, and checks that the OpenAPI document describes the answer, and the request if it is accepted.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (head, body) = request.into_parts();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        // A body that cannot be read is a part of some tests.
        let (sent, body) = match body.collect().await {
            Ok(body) => {
                let bytes = body.to_bytes();
                (serde_json::from_slice(&bytes).unwrap_or_default(), Body::from(bytes))
            }
            Err(error) => {
                (Value::Null, Body::from_stream(futures_util::stream::iter([Err::<Vec<u8>, _>(error)])))
            }
        };
        let response = self.router.clone().oneshot(Request::from_parts(head, body)).await;
        let (head, body) = response.expect("the router never fails").into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        let reply = Reply {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.into()).expect("text"),
        };
        let base = &self.config.http.base_path;
        let path = uri.path().strip_prefix(&**base).unwrap_or(uri.path());
        contract::assert_answer(&method, path, reply.status.as_u16(), &reply.json());
        if reply.status.is_success() && !self.lenient {
            contract::assert_request(&method, path, &sent);
        }
        reply
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    /// Sends JSON by POST.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.raw(path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Sends any body by POST, with exactly these headers.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request")).await
    }

    /// Sends a reserve under a key.
    pub async fn reserve(&self, key: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.raw("/api/v1/reserve", &headers, body.to_string()).await
    }

    /// Holds units; returns the token.
    pub async fn hold(&self, key: &str, resource: &str, quantity: u64) -> String {
        let reply =
            self.reserve(key, &json!({"resourceId": resource, "quantity": quantity, "ttlSeconds": 60})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Commits, releases or cancels a reservation.
    pub async fn act(&self, verb: &str, token: &str) -> Reply {
        self.post(&format!("/api/v1/{verb}"), &json!({"token": token})).await
    }
}

#[async_trait]
impl Client for Api {
    async fn request(&self, method: Method, path: &str, key: &str, body: &str) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let reply = self.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
        (reply.status.as_u16(), reply.json())
    }
}
