//! The API in this process: requests go through the router, without a socket.

use std::sync::Arc;

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

use crate::Books;

/// An engine with its API, on books of its own.
pub struct Api {
    /// The engine.
    pub app: Arc<App>,
    /// The API.
    pub router: Router,
    /// Its books.
    pub books: Books,
    /// Its configuration.
    pub config: Config,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header as text; empty where there is none.
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
    /// With default settings, on the database's own clock.
    pub async fn start(books: Books) -> Self {
        Self::with(books, &[], None).await
    }

    /// With a clock that moves only when told.
    pub async fn at(books: Books, clock: &FixedClock) -> Self {
        Self::with(books, &[], Some(clock)).await
    }

    /// With some settings.
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
        Self { router: bespeak_http::router(app.clone(), config.http.clone()), app, books, config }
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Reply {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.into()).expect("text"),
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.raw(path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// POST of anything.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request")).await
    }

    /// POST /api/v1/reserve under a key.
    pub async fn reserve(&self, key: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.raw("/api/v1/reserve", &headers, body.to_string()).await
    }

    /// Defines a resource.
    pub async fn stock(&self, resource: &str, total: u64) {
        let reply =
            self.post("/api/v1/resources", &json!({"resourceId": resource, "totalStock": total})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }

    /// Holds units; returns the token.
    pub async fn hold(&self, key: &str, resource: &str, quantity: u64) -> String {
        let reply =
            self.reserve(key, &json!({"resourceId": resource, "quantity": quantity, "ttlSeconds": 60})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["token"].as_str().expect("a token").to_owned()
    }

    /// POST of a token to commit, release, cancel.
    pub async fn act(&self, verb: &str, token: &str) -> Reply {
        self.post(&format!("/api/v1/{verb}"), &json!({"token": token})).await
    }

    /// Units available, as the API says.
    pub async fn available(&self, resource: &str) -> u64 {
        self.get(&format!("/api/v1/resources/{resource}")).await.json()["availableStock"]
            .as_u64()
            .expect("a number")
    }
}
