//! A problem as an HTTP answer, and the constructors that handlers use.
//!
//! Never: a stack trace, SQL or a driver's text in a detail. A failure is logged where it is handled.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bespeak::engine::{Status, Timestamp};
use http::Uri;
use problem_details::ProblemDetails;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::kind::Kind;
use crate::{enums::ReservationStatus, views::ReservationView};

/// The `Retry-After` of a 503, in seconds.
pub(super) const RETRY_AFTER_SECONDS: u64 = 1;

/// The members beside those of RFC 9457. Each is present only for the problems that it describes.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Members {
    /// The field, header, parameter or path segment that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    /// The resource that the problem concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource_id: Option<String>,
    /// The number of units that were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requested: Option<u64>,
    /// The number of units that are available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) available_stock: Option<u64>,
    /// The number of units that are held or committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_use: Option<u64>,
    /// When the next hold of the resource expires, unless it is committed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) next_release_at: Option<Timestamp>,
    /// When the hold expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) expired_at: Option<Timestamp>,
    /// The present status of the reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ReservationStatus>)]
    pub(super) reservation_status: Option<Status>,
    /// The reservation that an earlier request with the same idempotency key made, as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reservation: Option<Box<ReservationView>>,
}

impl Members {
    /// The schema of each member, by its name in JSON.
    pub(super) fn schemas() -> Vec<(String, Value)> {
        let mut schema = json!(Self::schema());
        match schema["properties"].take() {
            Value::Object(properties) => properties.into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether these are the members that the table lists for the kind.
    fn fit(&self, kind: Kind) -> bool {
        let written = json!(self);
        let has = |name: &&str| !written[*name].is_null();
        let listed =
            |name: &str| kind.required_members().contains(&name) || kind.optional_members().contains(&name);
        kind.required_members().iter().all(has)
            && written.as_object().is_some_and(|members| members.keys().all(|name| listed(name)))
    }
}

/// The reason why a request had no effect: an error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    body: Box<ProblemDetails<Members>>,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let body = ProblemDetails::new()
            .with_status(kind.status())
            .with_type(Uri::from_static(kind.slug()))
            .with_title(kind.title())
            .with_detail(detail)
            .with_extensions(Members::default());
        Self { kind, body: Box::new(body), retry_after_seconds: None }
    }

    pub(super) fn with(mut self, set: impl FnOnce(&mut Members)) -> Self {
        set(&mut self.body.extensions);
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    #[cfg(test)]
    pub(super) fn written_without_members(&self) -> (Kind, Value) {
        (self.kind, json!(self.body))
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> (Kind, Value) {
        assert!(self.body.extensions.fit(self.kind), "{self:?} has other members than its row");
        (self.kind, json!(self.body))
    }

    /// Cuts the `expiresAt` of its reservation to whole seconds.
    pub(crate) fn in_whole_seconds(self) -> Self {
        self.with(|members| {
            let whole = |view: Box<ReservationView>| Box::new(view.in_whole_seconds());
            members.reservation = members.reservation.take().map(whole);
        })
    }

    /// 404: the API has no such path.
    pub(crate) fn no_path(detail: &str) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// 404: no reservation has the token.
    pub(crate) fn no_reservation() -> Self {
        Self::new(Kind::ReservationNotFound, "no reservation has this token")
    }

    /// 404: there is no such resource.
    pub(crate) fn no_resource(id: &str) -> Self {
        Self::new(Kind::ResourceNotFound, format!("there is no resource {id}"))
            .with(|members| members.resource_id = Some(id.to_owned()))
    }

    /// 503: a background task of this process ended, so the process must be restarted.
    pub(crate) fn task_ended(task: &str) -> Self {
        Self::new(
            Kind::Unavailable,
            format!("the background task {task} ended: this process must be restarted"),
        )
    }

    /// 405; the router adds `Allow`.
    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        let detail =
            format!("this path does not accept {method}; the header Allow lists the methods that it accepts");
        Self::new(Kind::MethodNotAllowed, detail)
    }

    /// 400: the body is not JSON, or not complete.
    pub(crate) fn malformed_body(detail: impl Into<String>) -> Self {
        Self::new(Kind::MalformedBody, detail)
    }

    /// 400: the idempotency key is missing.
    pub(crate) fn key_missing() -> Self {
        Self::new(Kind::IdempotencyKeyMissing, "the header Idempotency-Key is required")
            .with(|members| members.field = Some("Idempotency-Key".to_owned()))
    }

    /// 400: the idempotency key is malformed.
    pub(crate) fn key_malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::IdempotencyKeyMalformed, detail)
            .with(|members| members.field = Some("Idempotency-Key".to_owned()))
    }

    /// 408: the client did not send its body in time.
    pub(crate) fn body_too_slow(limit_seconds: u64) -> Self {
        let detail = format!("the body of the request did not arrive within {limit_seconds} s");
        Self::new(Kind::RequestTimeout, detail)
    }

    /// 413: the body is too large.
    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        Self::new(Kind::BodyTooLarge, format!("the body must have at most {bytes_max} bytes"))
    }

    /// 415: the body must have another media type.
    pub(crate) fn unsupported_media_type(expected: &str) -> Self {
        let detail = format!("the body must be sent with Content-Type: {expected}");
        Self::new(Kind::UnsupportedMediaType, detail)
            .with(|members| members.field = Some("Content-Type".to_owned()))
    }

    /// 421: the server does not accept requests in the name of this host.
    pub(crate) fn host_not_allowed(field: &str, host: &str) -> Self {
        let shown: String = host.chars().take(100).collect();
        let detail = format!(
            "requests with {field}: {shown} are not accepted; name the hosts that are right in BESPEAK_ALLOWED_HOSTS"
        );
        Self::new(Kind::HostNotAllowed, detail).with(|members| members.field = Some(field.to_owned()))
    }

    /// 503: as many connections are served as the server allows.
    pub(crate) fn too_many_connections() -> Self {
        Self::new(Kind::Unavailable, "too many connections are open; nothing was done")
            .retry_after(RETRY_AFTER_SECONDS)
    }

    /// 422: a value is not acceptable.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidValue, detail).with(|members| members.field = Some(field.into()))
    }

    /// 500: a defect of the server. Its cause is in the log only.
    pub(crate) fn internal() -> Self {
        let detail = "the server failed to handle the request because of a defect; its log has the cause";
        Self::new(Kind::InternalError, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        debug_assert!(self.body.extensions.fit(self.kind), "{:?} has other members than its row", self.body);
        let status = self.body.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The rest of the body may still arrive, and would be read as the next request.
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
