//! What goes wrong, in HTTP: problem details (RFC 9457). The one place that maps refusals and failures to statuses.
//!
//! Never: a stack trace, SQL or a driver's text. Failures were logged where they were met.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bespeak::{
    app::{Rejected, ReserveRefusal},
    coordination::Limited,
    dispatch::DispatchError,
    engine::{Refusal, Timestamp, Violation},
    store::StoreError,
    webhooks::WebhookRefusal,
};
use http::Uri;
use problem_details::ProblemDetails;
use serde::Serialize;
use utoipa::ToSchema;

/// How soon a client may come again after a 503, in seconds.
const COME_AGAIN_SECONDS: u64 = 1;

/// Members beside the standard ones, each where it says something.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Members {
    /// The field, header, parameter or path segment that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The resource in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// Units asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<u64>,
    /// Units available.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_stock: Option<u64>,
    /// Units held or committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<u64>,
    /// When the next hold of the resource ends, unless it is committed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_release_at: Option<Timestamp>,
    /// When the hold's time was up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expired_at: Option<Timestamp>,
    /// What the reservation is.
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation_status: Option<&'static str>,
}

/// Problem details (RFC 9457): why a request had no effect.
///
/// Describes what [`ProblemDetails`] writes.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A stable name of the kind of problem, such as `out-of-stock`.
    #[schema(example = "out-of-stock")]
    r#type: String,
    /// The kind of problem, for people.
    #[schema(example = "Out of stock")]
    title: String,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// What was wrong this time, and what would be right.
    detail: String,
    #[serde(flatten)]
    members: Members,
}

/// A request that had no effect, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    body: Box<ProblemDetails<Members>>,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, slug: &'static str, title: &str, detail: impl Into<String>) -> Self {
        let body = ProblemDetails::new()
            .with_status(status)
            .with_type(Uri::from_static(slug))
            .with_title(title)
            .with_detail(detail)
            .with_extensions(Members::default());
        Self { body: Box::new(body), retry_after_seconds: None }
    }

    fn with(mut self, set: impl FnOnce(&mut Members)) -> Self {
        set(&mut self.body.extensions);
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// 404.
    pub(crate) fn not_found(slug: &'static str, title: &str, detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, slug, title, detail)
    }

    /// 404: no reservation bears the token.
    pub(crate) fn no_reservation() -> Self {
        Self::not_found("reservation-not-found", "No such reservation", "no reservation has this token")
    }

    /// 404: there is no such resource.
    pub(crate) fn no_resource(id: &str) -> Self {
        Self::not_found("resource-not-found", "No such resource", &format!("there is no resource {id}"))
            .with(|members| members.resource_id = Some(id.to_owned()))
    }

    /// 405; the router adds `Allow`.
    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("this path does not take {method}; the header Allow names what it takes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// 400: the body is no JSON.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-body", "Malformed body", detail)
    }

    /// 400: the idempotency key is missing or malformed.
    pub(crate) fn key(slug: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, slug, "Idempotency key missing or malformed", detail)
            .with(|members| members.field = Some("Idempotency-Key".to_owned()))
    }

    /// 408: the client was too slow.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        let detail = format!("the request did not arrive within {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "Request timeout", detail)
    }

    /// 413.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body must have at most {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large", detail)
    }

    /// 415.
    pub(crate) fn unsupported(wanted: &str) -> Self {
        let detail = format!("the body must be sent with Content-Type: {wanted}");
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
        .with(|members| members.field = Some("Content-Type".to_owned()))
    }

    /// 422: a value is not acceptable.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value", detail)
            .with(|members| members.field = Some(field.into()))
    }

    /// 500: a defect. The log knows more.
    pub(crate) fn internal() -> Self {
        let detail = "the request failed for a reason that is ours; the server's log has it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "Internal error", detail)
    }

    /// 429: the holder asks too often.
    fn limited(limited: Limited) -> Self {
        let detail = format!("{limited}; nothing was done, and a retry with the same key is safe");
        // Whole seconds, rounded up: whoever waits so long does not come too early.
        let seconds = limited.retry_after.as_secs_f64().ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 86,400")]
        let seconds = seconds as u64;
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests", detail)
            .retry_after(seconds)
    }

    fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable", detail)
            .retry_after(COME_AGAIN_SECONDS)
    }

    /// A refusal, to a customer who was told so at `now`.
    pub(crate) fn refused(refusal: Refusal, now: Timestamp) -> Self {
        let slug = refusal.slug();
        let conflict = |title: &str, detail: String| Self::new(StatusCode::CONFLICT, slug, title, detail);
        match refusal {
            Refusal::ResourceNotFound { resource_id } => Self::no_resource(resource_id.as_str()),
            Refusal::ReservationNotFound => Self::no_reservation(),
            Refusal::OutOfStock { resource_id, requested, available, next_release_at } => {
                let detail =
                    format!("{requested} of {resource_id} were asked for, {available} are available");
                let problem = conflict("Out of stock", detail).with(|members| {
                    members.resource_id = Some(resource_id.to_string());
                    members.requested = Some(requested);
                    members.available_stock = Some(available);
                    members.next_release_at = next_release_at;
                });
                match next_release_at {
                    Some(at) => problem.retry_after(seconds_until(at, now)),
                    None => problem,
                }
            }
            Refusal::Backlogged { resource_id } => {
                let detail = format!("expired holds of {resource_id} are being given back; come again");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, "Expired holds are being given back", detail)
                    .with(|members| members.resource_id = Some(resource_id.to_string()))
                    .retry_after(COME_AGAIN_SECONDS)
            }
            Refusal::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                slug,
                "Idempotency key reused",
                "this key belongs to a request that asked for something else; a new request needs a new key",
            )
            .with(|members| members.field = Some("Idempotency-Key".to_owned())),
            Refusal::StockInUse { resource_id, requested_total, in_use } => {
                let detail = format!(
                    "{in_use} of {resource_id} are held or committed; the total cannot be {requested_total}"
                );
                conflict("Stock in use", detail).with(|members| {
                    members.resource_id = Some(resource_id.to_string());
                    members.requested = Some(requested_total);
                    members.in_use = Some(in_use);
                })
            }
            Refusal::HoldExpired { expired_at } => {
                let detail = format!("the hold ended at {expired_at}");
                Self::new(StatusCode::GONE, slug, "Hold expired", detail)
                    .with(|members| members.expired_at = Some(expired_at))
            }
            Refusal::AlreadyCommitted => {
                conflict("Already committed", "the reservation was committed before".into())
            }
            Refusal::AlreadyReleased => conflict("Already released", "the hold was released before".into()),
            Refusal::AlreadyCancelled => {
                conflict("Already cancelled", "the reservation was cancelled before".into())
            }
            Refusal::NotCommitted { status } => conflict(
                "Not committed",
                format!("only a committed reservation can be cancelled; this is {status}"),
            )
            .with(|members| members.reservation_status = Some(status.as_str())),
            Refusal::NotDue { expires_at } => conflict("Not due", format!("the hold ends at {expires_at}")),
        }
    }
}

/// Whole seconds from `now` until `at`, rounded up: whoever waits so long does not come too early.
fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let millis = at.duration_since(now).as_millis();
    u64::try_from(millis).unwrap_or(0).div_ceil(1000).max(1)
}

impl From<Violation> for Problem {
    fn from(violation: Violation) -> Self {
        let detail = violation.to_string();
        Self::invalid(violation.field, detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        // The hint is in whole seconds, so this process's clock will do.
        Self::refused(refusal, Timestamp::now())
    }
}

impl<R> From<Rejected<R>> for Problem
where
    Problem: From<R>,
{
    fn from(rejected: Rejected<R>) -> Self {
        match rejected {
            Rejected::Refused(refusal) => refusal.into(),
            Rejected::Failed(error) => error.into(),
        }
    }
}

impl From<ReserveRefusal> for Problem {
    fn from(refusal: ReserveRefusal) -> Self {
        match refusal {
            ReserveRefusal::Engine(refusal) => refusal.into(),
            ReserveRefusal::RateLimited(limited) => limited.into(),
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        Self::limited(limited)
    }
}

impl From<WebhookRefusal> for Problem {
    fn from(refusal: WebhookRefusal) -> Self {
        let (slug, detail) = (refusal.slug(), refusal.to_string());
        match refusal {
            WebhookRefusal::NoEndpoint => Self::not_found(slug, "No such webhook", &detail),
            WebhookRefusal::NoDelivery => Self::not_found(slug, "No such delivery", &detail),
            WebhookRefusal::FromEnvironment => {
                Self::new(StatusCode::CONFLICT, slug, "Webhook of the environment", detail)
            }
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Full => Self::unavailable("too many requests are waiting; nothing was done"),
            DispatchError::Stopping => Self::unavailable("the server is stopping; nothing was done"),
            DispatchError::Lock(_) => Self::unavailable(
                "others are changing this resource, or what keeps them apart is unavailable; nothing was done",
            ),
            DispatchError::Panicked => Self::internal(),
            DispatchError::Store(error) => Self::store(&error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

impl Problem {
    fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Lost { .. } => {
                Self::unavailable("the database is unavailable; a retry with the same key is safe")
            }
            StoreError::Contended { .. } => {
                Self::unavailable("too many writers at once; a retry with the same key is safe")
            }
            StoreError::Corrupt { .. }
            | StoreError::Value { .. }
            | StoreError::Statement { .. }
            | StoreError::Migration { .. } => Self::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.body.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
