//! The functions as Lambda runs them: processes that a Runtime API invokes with the samples of `events/`.

use std::{ops::Deref, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak_event_source::Invoke;
use bespeak_services::{Failure, Function};
use http::Method;
use serde_json::{Value, json};

use crate::{Books, Client, binary, contract, kafka};

/// The time of an invocation in tests that do not depend on it.
pub const TIME: Duration = Duration::from_secs(30);

/// A function as a process, on books of a test.
pub struct Lambda(Function);

impl Deref for Lambda {
    type Target = Function;

    fn deref(&self) -> &Function {
        &self.0
    }
}

/// The gateway through which a request reaches the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// API Gateway, HTTP API: payload format 2.0.
    HttpApi,
    /// API Gateway, REST API: payload format 1.0.
    RestApi,
    /// A Function URL, payload format 2.0.
    FunctionUrl,
    /// A load balancer with multi-value headers.
    Alb,
}

impl Gateway {
    /// Every kind of gateway.
    pub const ALL: [Self; 4] = [Self::HttpApi, Self::RestApi, Self::FunctionUrl, Self::Alb];

    /// The gateway's sample in `events/`.
    pub fn sample(self) -> Value {
        sample(match self {
            Self::HttpApi => "reserve-http-api",
            Self::RestApi => "reserve-rest-api",
            Self::FunctionUrl => "reserve-function-url",
            Self::Alb => "reserve-alb",
        })
    }

    /// The event of a request: the sample with another method, path, key and body. The body is base64 if that of the
    /// sample is.
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

/// A sample of `events/` by its name.
pub fn sample(name: &str) -> Value {
    let path = format!("{}/../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Lambda {
    /// Migrates the books, as a deployment does, and starts a function on them.
    pub async fn start(name: &str, books: &Books, settings: &[(&str, &str)]) -> Self {
        let url = books.url();
        let migrated = binary::bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, 0, "{migrated:?}");
        Self::start_at(name, &url, settings).await
    }

    /// Starts a function on a database that may be unreachable.
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

    /// Invokes the function and returns its answer as JSON.
    ///
    /// # Errors
    /// The invocation failed.
    pub async fn call(&self, event: &Value) -> Result<Value, Failure> {
        self.call_within(event, TIME).await
    }

    /// Invokes the function with this much time until its deadline.
    ///
    /// # Errors
    /// The invocation failed.
    pub async fn call_within(&self, event: &Value, time: Duration) -> Result<Value, Failure> {
        let answer = self.0.invoke(event.to_string(), time).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
    }

    /// Invokes `reserve` with a request through a gateway; returns the status and the body.
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
}

#[async_trait]
impl Client for Lambda {
    async fn request(&self, method: Method, path: &str, key: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.ask(Gateway::HttpApi, method.as_str(), path, key, body).await;
        let status = u16::try_from(status).expect("a status");
        contract::assert_answer(&method, path, status, &answer);
        (status, answer)
    }
}

#[async_trait]
impl Invoke for Lambda {
    async fn invoke(&self, event: Value) -> Result<Value, String> {
        self.call(&event).await.map_err(|failure| format!("{failure:?}"))
    }
}

/// The status and the body of an answer to a gateway.
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
