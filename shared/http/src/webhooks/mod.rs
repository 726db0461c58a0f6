//! Endpoints: who is told of what happened, make, show, change, delete, try.

mod deliveries;
mod views;

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bespeak::{
    store::webhooks::EndpointPage,
    webhooks::{EndpointChange, EndpointId, EventFilter, Secret},
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    body::JsonBody,
    problem::{Problem, ProblemBody},
    query,
    router::Api,
};
use views::{SecretWebhookView, TestView, WebhookPage, WebhookView};

/// How long both secrets sign after a rotation that says nothing of it, in seconds.
const OVERLAP_DEFAULT_SECONDS: u64 = 24 * 60 * 60;
/// The longest time that both sign, in seconds.
const OVERLAP_MAX_SECONDS: u64 = 7 * 24 * 60 * 60;

/// The routes, and their description.
pub(crate) fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, change, delete))
        .routes(routes!(rotate))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(deliveries::replay))
}

/// Where to send, and what.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateWebhookRequest {
    /// An absolute URL of http or https, without a user. Addresses that the internet cannot reach are refused, unless the
    /// configuration allows them.
    #[schema(example = "https://example.com/webhooks", max_length = 2048)]
    url: String,
    /// CloudEvents types, or beginnings of such with `*` at the end. Every event where there are none.
    #[schema(example = json!(["bespeak.stock.*"]), max_items = 32)]
    event_types: Option<Vec<String>>,
    /// What to sign with: `whsec_` and the base64 of 24 to 64 random bytes. Drawn where not given.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
}

/// What to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangeWebhookRequest {
    /// CloudEvents types, or beginnings of such with `*` at the end. Every event where there are none.
    #[schema(example = json!(["bespeak.reservation.*"]), max_items = 32)]
    event_types: Vec<String>,
}

/// How to rotate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// For how long the last secret signs beside the new one, in seconds: a day where not given, a week at most.
    #[schema(example = 86_400, minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<u64>,
}

/// The id in a path.
type IdPath = Result<Path<String>, PathRejection>;

fn id(path: IdPath) -> Result<EndpointId, Problem> {
    let Path(id) = path.map_err(|rejection| Problem::invalid("id", rejection.body_text()))?;
    Ok(EndpointId::parse("id", &id)?)
}

fn filter(patterns: &[String]) -> Result<EventFilter, Problem> {
    Ok(EventFilter::from_patterns("eventTypes", patterns.iter().map(String::as_str))?)
}

/// Have events sent to a URL.
///
/// Deliveries are POSTs, signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`). Only
/// 2xx counts as received; redirects are not followed; 410 disables the endpoint. What failed is tried again after 5 s,
/// 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, or later where `Retry-After` asks for it. An event may arrive more than
/// once, always under the same `webhook-id`, and events may arrive in another order than they happened in: compare
/// versions. The secret is shown in this answer and never again.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = CreateWebhookRequest,
    responses(
        (status = 201, body = SecretWebhookView, headers(("Location" = String, description = "The endpoint's path"))),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn create(
    State(api): State<Api>,
    JsonBody(request): JsonBody<CreateWebhookRequest>,
) -> Result<Response, Problem> {
    let url = api.app.webhook_url("url", &request.url)?;
    let filter = filter(&request.event_types.unwrap_or_default())?;
    let secret = request.secret.map(|secret| Secret::parse("secret", &secret)).transpose()?;
    let endpoint = api.app.create_webhook(url, filter, secret).await?;
    let location = HeaderValue::try_from(format!("/api/v1/webhooks/{}", endpoint.id));
    let mut response = (StatusCode::CREATED, Json(SecretWebhookView::from(endpoint))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Endpoints in id order, a page at a time.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks",
    params(
        ("limit" = Option<u32>, Query, description = "Endpoints on the page: 1 to 1000, 100 where not given"),
        ("after" = Option<String>, Query, description = "Start after this id: the `next` of the page before"),
    ),
    responses(
        (status = 200, body = WebhookPage),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn list(
    State(api): State<Api>,
    RawQuery(asked): RawQuery,
) -> Result<Json<WebhookPage>, Problem> {
    let mut page = EndpointPage { after: None, limit: query::PAGE_DEFAULT };
    for (name, value) in query::parameters(asked.as_deref()) {
        match &*name {
            "limit" => page.limit = query::limit(&value)?,
            "after" => page.after = Some(EndpointId::parse("after", &value)?),
            other => return Err(query::unknown(other, "limit, after")),
        }
    }
    // One more than asked for tells whether there is a next page.
    let limit = page.limit as usize;
    page.limit += 1;
    let mut endpoints = api.app.webhooks(page).await?;
    let more = endpoints.len() > limit;
    endpoints.truncate(limit);
    let next = if more { endpoints.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(WebhookPage { webhooks: endpoints.into_iter().map(WebhookView::from).collect(), next }))
}

/// An endpoint as it is now, without its secret.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = WebhookView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn show(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.app.webhook(id(path)?).await?.into()))
}

/// Have an endpoint told of other events. What was enqueued for it before stays.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", request_body = ChangeWebhookRequest,
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = WebhookView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn change(
    State(api): State<Api>,
    path: IdPath,
    JsonBody(request): JsonBody<ChangeWebhookRequest>,
) -> Result<Json<WebhookView>, Problem> {
    let change = EndpointChange::Filter(filter(&request.event_types)?);
    Ok(Json(api.app.change_webhook(id(path)?, change).await?.into()))
}

/// Delete an endpoint, and all its deliveries.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "webhook-of-environment: it is the configuration's"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn delete(State(api): State<Api>, path: IdPath) -> Result<StatusCode, Problem> {
    api.app.delete_webhook(id(path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace an endpoint's secret by a new one.
///
/// For a while both sign (`webhook-signature` holds both signatures), so that the receiver has time to change over. The new
/// secret is shown in this answer and never again. Where a rotation is still under way, the secret before the last one
/// signs no more.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate", tag = "webhooks", request_body = RotateRequest,
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = SecretWebhookView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "webhook-of-environment: it is the configuration's"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn rotate(
    State(api): State<Api>,
    path: IdPath,
    JsonBody(request): JsonBody<RotateRequest>,
) -> Result<Json<SecretWebhookView>, Problem> {
    let seconds = request.overlap_seconds.unwrap_or(OVERLAP_DEFAULT_SECONDS);
    if seconds > OVERLAP_MAX_SECONDS {
        let detail = format!("overlapSeconds must be 0 to {OVERLAP_MAX_SECONDS}, was {seconds}");
        return Err(Problem::invalid("overlapSeconds", detail));
    }
    let rotated = api.app.rotate_webhook(id(path)?, Duration::from_secs(seconds)).await?;
    Ok(Json(rotated.into()))
}

/// Send an endpoint nothing for now. What is enqueued for it is kept. Doing it again is answered the same.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/disable", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = WebhookView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn disable(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    let change = EndpointChange::Disable { reason: "it was disabled by hand".to_owned() };
    Ok(Json(api.app.change_webhook(id(path)?, change).await?.into()))
}

/// Send to an endpoint again, what was kept for it as well. Doing it again is answered the same.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/enable", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = WebhookView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn enable(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.app.change_webhook(id(path)?, EndpointChange::Enable).await?.into()))
}

/// Send an endpoint a signed `bespeak.webhook.test.v1` at once, and see what it says.
///
/// Also while it is disabled. Nothing is kept of it, and it is not sent again.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = TestView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn test(State(api): State<Api>, path: IdPath) -> Result<Json<TestView>, Problem> {
    Ok(Json(api.app.test_webhook(id(path)?).await?.into()))
}
