//! The functions, as Lambda runs them: processes that a Runtime API invokes with the samples of `events/`.

use std::{ops::Deref, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak_services::{Failure, Function};
use serde_json::{Value, json};

use crate::{Books, binary, kafka};

/// What an invocation has time for, where that does not matter.
pub const TIME: Duration = Duration::from_secs(30);

/// A function on books, as a process.
pub struct Lambda(Function);

impl Deref for Lambda {
    type Target = Function;

    fn deref(&self) -> &Function {
        &self.0
    }
}

/// Which gateway a request comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// API Gateway, HTTP API: payload format 2.0.
    HttpApi,
    /// API Gateway, REST API: payload format 1.0.
    RestApi,
    /// A Function URL.
    FunctionUrl,
    /// A load balancer with multi-value headers.
    Alb,
}

impl Gateway {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HttpApi, Self::RestApi, Self::FunctionUrl, Self::Alb];

    /// The sample of an event.
    pub fn sample(self) -> Value {
        sample(match self {
            Self::HttpApi => "reserve-http-api",
            Self::RestApi => "reserve-rest-api",
            Self::FunctionUrl => "reserve-function-url",
            Self::Alb => "reserve-alb",
        })
    }

    /// The event of a request: the sample, with another method, path, key and body. Bodies go as base64 where the sample's
    /// does.
    pub fn event(self, method: &str, path: &str, key: &str, body: &str) -> Value {
        let mut event = self.sample();
        if matches!(self, Self::HttpApi | Self::FunctionUrl) {
            event["rawPath"] = path.into();
            event["requestContext"]["http"]["method"] = method.into();
            event["requestContext"]["http"]["path"] = path.into();
        } else {
            event["path"] = path.into();
            event["httpMethod"] = method.into();
        }
        for headers in ["headers", "multiValueHeaders"] {
            let Some(headers) = event.get_mut(headers).filter(|headers| headers.is_object()) else {
                continue;
            };
            let value = if headers["host"].is_array() { json!([key]) } else { json!(key) };
            if key.is_empty() {
                headers.as_object_mut().expect("an object").remove("idempotency-key");
            } else {
                headers["idempotency-key"] = value;
            }
        }
        let encoded = event["isBase64Encoded"] == true;
        event["body"] = if encoded { STANDARD.encode(body).into() } else { body.into() };
        event
    }
}

/// A sample of `events/`.
pub fn sample(name: &str) -> Value {
    let path = format!("{}/../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Lambda {
    /// Starts a function on books, which are migrated first, as whoever deploys does.
    pub async fn start(name: &str, books: &Books, settings: &[(&str, &str)]) -> Self {
        let url = books.url();
        let migrated = binary::bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, 0, "{migrated:?}");
        Self::start_at(name, &url, settings).await
    }

    /// Starts a function on books that may not be there.
    pub async fn start_at(name: &str, url: &str, settings: &[(&str, &str)]) -> Self {
        let group = settings.iter().find(|(name, _)| *name == "BESPEAK_EVENTS_URL");
        let group = group.and_then(|(_, events)| kafka::group_of(events));
        let group = group.as_ref().map(|(name, group)| (*name, group.as_str()));
        // In front, so that a test's own setting counts.
        let settings: Vec<_> = group
            .into_iter()
            .chain([("BESPEAK_DATABASE_URL", url)])
            .chain(settings.iter().copied())
            .collect();
        Self(Function::start(&binary::built(name), &settings).await.expect("a function can be started"))
    }

    /// Invokes it; the answer as JSON.
    ///
    /// # Errors
    /// It failed.
    pub async fn call(&self, event: &Value) -> Result<Value, Failure> {
        self.call_within(event, TIME).await
    }

    /// Invokes it with so much time until its deadline.
    ///
    /// # Errors
    /// It failed.
    pub async fn call_within(&self, event: &Value, time: Duration) -> Result<Value, Failure> {
        let answer = self.0.invoke(event.to_string(), time).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
    }

    /// Invokes `reserve` with a request that comes through a gateway; status and body.
    pub async fn ask(
        &self,
        gateway: Gateway,
        method: &str,
        path: &str,
        key: &str,
        body: &str,
    ) -> (u64, Value) {
        let answer = self.call(&gateway.event(method, path, key, body)).await.expect("answered");
        answered(&answer)
    }

    /// POST of JSON through an HTTP API that must be answered 200; the answer.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(Gateway::HttpApi, "POST", path, key, &body.to_string()).await;
        assert_eq!(status, 200, "{path} {body}: {answer}; {:?}", self.log());
        answer
    }

    /// Defines a resource that a key opens.
    pub async fn cars(&self, resource: &str, total: u64) {
        let body = json!({"resourceId": resource, "totalStock": total, "fulfilment": "SMART_KEY"});
        self.post("/api/v1/resources", "", &body).await;
    }

    /// Holds a unit; the token.
    pub async fn hold(&self, key: &str, resource: &str) -> String {
        self.hold_for(key, resource, 600).await
    }

    /// Holds a unit for so many seconds; the token.
    pub async fn hold_for(&self, key: &str, resource: &str, ttl_seconds: u64) -> String {
        let body = json!({"resourceId": resource, "quantity": 1, "ttlSeconds": ttl_seconds});
        self.post("/api/v1/reserve", key, &body).await["token"].as_str().expect("a token").to_owned()
    }

    /// Commits or cancels.
    pub async fn act(&self, verb: &str, token: &str) {
        self.post(&format!("/api/v1/{verb}"), "", &json!({"token": token})).await;
    }

    /// A reservation, as the API shows it.
    pub async fn show(&self, token: &str) -> Value {
        self.ask(Gateway::HttpApi, "GET", &format!("/api/v1/reservations/{token}"), "", "").await.1
    }
}

/// Status and body of what a gateway is given.
pub fn answered(answer: &Value) -> (u64, Value) {
    let body = answer["body"].as_str().unwrap_or_default();
    let body = if answer["isBase64Encoded"] == true {
        String::from_utf8(STANDARD.decode(body).expect("base64")).expect("text")
    } else {
        body.to_owned()
    };
    let status = answer["statusCode"].as_u64().expect("a status");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
