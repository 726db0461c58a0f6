//! The requests that stories are made of, written once for every way to the API.
//!
//! A way implements [`Client::request`]: [`Api`](crate::Api) calls the router in this process,
//! [`Server`](crate::Server) opens a socket to a process, and [`Lambda`](crate::Lambda) invokes the function
//! `reserve` as a gateway does. A verb asserts that its request was answered 200; a story that expects a refusal uses
//! `request` itself.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

/// A client of the API.
#[async_trait]
pub trait Client: Sync {
    /// Sends one request, with an idempotency key unless `key` is empty; returns the status and the body as JSON
    /// (null if it is not JSON).
    async fn request(&self, method: Method, path: &str, key: &str, body: &str) -> (u16, Value);

    /// Sends JSON that must be accepted, and returns the answer.
    async fn submit(&self, path: &str, key: &str, body: &Value) -> Value {
        let (status, answer) = self.request(Method::POST, path, key, &body.to_string()).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// Defines a resource, or sets its total.
    async fn stock(&self, resource: &str, total: u64) {
        self.submit("/api/v1/resources", "", &json!({"resourceId": resource, "totalStock": total})).await;
    }

    /// Defines a resource for which a commit issues a SmartKey.
    async fn cars(&self, resource: &str, total: u64) {
        let body = json!({"resourceId": resource, "totalStock": total, "fulfilment": "SMART_KEY"});
        self.submit("/api/v1/resources", "", &body).await;
    }

    /// Holds one unit for ten minutes; returns the token.
    async fn hold(&self, key: &str, resource: &str) -> String {
        self.hold_for(key, resource, 600).await
    }

    /// Holds one unit for `ttl_seconds`; returns the token.
    async fn hold_for(&self, key: &str, resource: &str, ttl_seconds: u64) -> String {
        let body = json!({"resourceId": resource, "quantity": 1, "ttlSeconds": ttl_seconds});
        self.submit("/api/v1/reserve", key, &body).await["token"].as_str().expect("a token").to_owned()
    }

    /// Commits, releases or cancels a reservation.
    async fn act(&self, verb: &str, token: &str) {
        self.submit(&format!("/api/v1/{verb}"), "", &json!({"token": token})).await;
    }

    /// Returns a reservation as the API shows it.
    async fn show(&self, token: &str) -> Value {
        self.request(Method::GET, &format!("/api/v1/reservations/{token}"), "", "").await.1
    }

    /// Returns how many units of a resource are available.
    async fn available(&self, resource: &str) -> u64 {
        let (_, shown) = self.request(Method::GET, &format!("/api/v1/resources/{resource}"), "", "").await;
        shown["availableStock"].as_u64().expect("a number")
    }
}
