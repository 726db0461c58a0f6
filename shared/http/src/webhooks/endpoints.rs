//! The operations on webhook endpoints: create, list, show, change, delete, rotate the secret, disable, enable, test.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bespeak::{
    app::NewWebhook,
    store::webhooks::{CreatedEndpoint, EndpointPage},
    webhooks::{CustomHeaders, EndpointChange, EndpointId, EndpointUpdate, EventFilter, Secret},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    path::{IdPath, endpoint_id},
    views::{SecretWebhookView, TestView, WebhookPage, WebhookView},
};
use crate::{
    body::{JsonBody, OptionalJsonBody},
    key,
    problem::{Problem, problems},
    query::{self, PageLimit},
    state::Api,
    whole::Whole,
};

/// How long both secrets sign after a rotation whose request has no `overlapSeconds`.
const OVERLAP_DEFAULT_SECONDS: u64 = 24 * 60 * 60;
/// The largest `overlapSeconds`.
const OVERLAP_MAX_SECONDS: u64 = 7 * 24 * 60 * 60;
/// The header of an answer to a retry.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

problems!(
    CreateProblems: IdempotencyKeyMalformed,
    WebhookLimit,
    InvalidValue,
    IdempotencyKeyReused
);
problems!(ListProblems: InvalidValue);
problems!(EndpointProblems: WebhookNotFound, InvalidValue);
problems!(ChangeProblems: WebhookNotFound, WebhookOfEnvironment, InvalidValue);
problems!(DeleteProblems: WebhookNotFound, WebhookOfEnvironment, InvalidValue, WebhookBusy);
problems!(TestProblems: WebhookNotFound, InvalidValue, WebhookBusy);
problems!(
    RotateProblems: IdempotencyKeyMalformed,
    WebhookNotFound,
    WebhookOfEnvironment,
    WebhookSecretLimit,
    InvalidValue,
    IdempotencyKeyReused
);

/// The endpoint to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateWebhookRequest {
    /// An absolute `https` URL without user information. Addresses that are not on the public internet are refused, and
    /// so are `http` and unusual ports, unless the configuration allows them.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// The CloudEvents types to send, or prefixes of them that end in `*`. An empty list means every event.
    #[schema(example = json!(["bespeak.stock.*"]), max_items = 32)]
    event_types: Option<Vec<String>>,
    /// The secret that signs deliveries: `whsec_` and the base64 of 24 to 64 random bytes. By default, the server draws
    /// one.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
    /// Headers that are added to each delivery, by name: at most 8. Their values are secrets, and are never shown.
    /// Headers of the connection, of the message and of its signature are refused.
    #[schema(example = json!({"Authorization": "Bearer s3cret"}))]
    headers: Option<BTreeMap<String, String>>,
}

/// The new properties of the endpoint, at least one of them; those that are absent stay.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangeWebhookRequest {
    /// The CloudEvents types to send, or prefixes of them that end in `*`. An empty list means every event.
    #[schema(example = json!(["bespeak.reservation.*"]), max_items = 32)]
    event_types: Option<Vec<String>>,
    /// The URL to which events are sent from now on, pending deliveries included. If it moves to another host,
    /// `headers` must be given too if the endpoint has any, because they are secrets of the old host.
    #[schema(example = "https://new.example.com/webhooks")]
    url: Option<String>,
    /// The headers that are added to each delivery from now on, instead of the present ones; `{}` for none.
    #[schema(example = json!({"Authorization": "Bearer s3cret"}))]
    headers: Option<BTreeMap<String, String>>,
}

/// The options of a rotation.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// How long the present secret signs beside the new one, in seconds: one day by default, at most one week. 0 ends
    /// this one and all earlier ones at once.
    #[schema(example = 86_400, minimum = 0, maximum = 604_800, value_type = Option<u64>)]
    overlap_seconds: Option<Whole>,
    /// The new secret: `whsec_` and the base64 of 24 to 64 random bytes. By default, the server draws one. If it is the
    /// present secret, nothing changes, so such a request is safe to retry.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
}

/// Parses `eventTypes`.
fn filter(patterns: &[String]) -> Result<EventFilter, Problem> {
    Ok(EventFilter::from_patterns("eventTypes", patterns.iter().map(String::as_str))?)
}

/// Parses `headers`.
fn custom_headers(given: &BTreeMap<String, String>) -> Result<CustomHeaders, Problem> {
    Ok(CustomHeaders::from_pairs("headers", given.iter().map(|(name, value)| (&**name, &**value)))?)
}

/// Create an endpoint: events are then sent to its URL.
///
/// Deliveries are POST requests with the signature of Standard Webhooks (`webhook-id`, `webhook-timestamp`,
/// `webhook-signature`). Only 2xx counts as delivered, redirects are not followed, and 410 disables the endpoint if it
/// is answered three times over an hour. A failed delivery is retried after 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h
/// and 24 h, or later if the receiver sends `Retry-After`. An event may arrive more than once, always with the same
/// `webhook-id`, and events may arrive out of order, so compare their versions. This answer shows the secret, and no
/// later answer does. With an `Idempotency-Key`, a retry within a day gets the endpoint that the first request created,
/// with its secret.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = CreateWebhookRequest,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "A key for this request, such as a UUID, which makes it safe to retry it")),
    responses(
        (status = 201, body = SecretWebhookView,
            headers(("Location" = String, description = "The path of the endpoint"))),
        CreateProblems,
    ))]
pub(crate) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<CreateWebhookRequest>,
) -> Result<Response, Problem> {
    let new = NewWebhook {
        key: key::optional(&headers)?.map(|key| key.to_string()),
        url: api.app.webhook_url("url", &request.url)?,
        filter: filter(&request.event_types.unwrap_or_default())?,
        headers: custom_headers(&request.headers.unwrap_or_default())?,
        secret: request.secret.map(|secret| Secret::parse("secret", &secret)).transpose()?,
    };
    let CreatedEndpoint { endpoint, is_replayed } = api.app.create_webhook(new).await?;
    let location = HeaderValue::try_from(format!("{}/api/v1/webhooks/{}", api.http.base_path, endpoint.id));
    let mut response = (StatusCode::CREATED, Json(SecretWebhookView::created(endpoint))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if is_replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// List endpoints in the order of their ids, one page at a time.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks",
    params(
        ("limit" = Option<u32>, Query, description = "The number of endpoints on the page: 1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "Start after this id: the `next` of the previous page"),
    ),
    responses((status = 200, body = WebhookPage), ListProblems))]
pub(crate) async fn list(
    State(api): State<Api>,
    RawQuery(given): RawQuery,
) -> Result<Json<WebhookPage>, Problem> {
    let (mut limit, mut after) = (PageLimit::default(), None);
    for (name, value) in query::parameters(given.as_deref())? {
        match &*name {
            "limit" => limit = PageLimit::parse(&value)?,
            "after" => after = Some(EndpointId::parse("after", &value)?),
            other => return Err(query::unknown(other, "limit, after")),
        }
    }
    let rows = api.app.webhooks(EndpointPage { after, limit: limit.rows_to_read() }).await?;
    let page = query::page(rows, limit, |last| last.endpoint.id.to_string());
    Ok(Json(WebhookPage {
        webhooks: page.rows.into_iter().map(WebhookView::from).collect(),
        next: page.next,
    }))
}

/// Get an endpoint, without its secret.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = WebhookView), EndpointProblems))]
pub(crate) async fn show(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.app.webhook(endpoint_id(path)?).await?.into()))
}

/// Change the event types, the URL or the headers of an endpoint.
///
/// A field that is absent stays as it is, so an empty body changes nothing. Deliveries that were enqueued before stay,
/// and go to the new URL. To change the URL also closes the circuit.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", request_body = ChangeWebhookRequest,
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = WebhookView), ChangeProblems))]
pub(crate) async fn change(
    State(api): State<Api>,
    path: IdPath,
    JsonBody(request): JsonBody<ChangeWebhookRequest>,
) -> Result<Json<WebhookView>, Problem> {
    let update = EndpointUpdate {
        url: request.url.map(|url| api.app.webhook_url("url", &url)).transpose()?,
        filter: request.event_types.map(|types| filter(&types)).transpose()?,
        headers: request.headers.map(|headers| custom_headers(&headers)).transpose()?,
    };
    let change = EndpointChange::Update(update);
    Ok(Json(api.app.change_webhook(endpoint_id(path)?, change).await?.into()))
}

/// Delete an endpoint and all its deliveries.
///
/// From now on nothing is sent to it, and it is not found. If it has many deliveries, their rows are deleted in the
/// background. The endpoint of the configuration can be deleted once the configuration no longer names it.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 204, description = "The endpoint was deleted"), DeleteProblems))]
pub(crate) async fn delete(State(api): State<Api>, path: IdPath) -> Result<StatusCode, Problem> {
    api.app.delete_webhook(endpoint_id(path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rotate the secret of an endpoint.
///
/// For the overlap, both the old and the new secret sign: `webhook-signature` holds several signatures, which gives the
/// receiver time to change over. This answer shows the new secret, and no later answer does. Each earlier secret signs
/// until its own end, so a rotation whose answer was lost can be made again; at most four replaced secrets sign at the
/// same time. With an `Idempotency-Key`, a retry gets the answer of the first request. The body may be missing.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate", tag = "webhooks", request_body = Option<RotateRequest>,
    params(
        ("id" = String, Path, description = "The id of the endpoint"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "A key for this request, such as a UUID, which makes it safe to retry it"),
    ),
    responses((status = 200, body = SecretWebhookView), RotateProblems))]
pub(crate) async fn rotate(
    State(api): State<Api>,
    path: IdPath,
    headers: HeaderMap,
    OptionalJsonBody(request): OptionalJsonBody<RotateRequest>,
) -> Result<Json<SecretWebhookView>, Problem> {
    let seconds = request.overlap_seconds.map_or(OVERLAP_DEFAULT_SECONDS, |Whole(seconds)| seconds);
    if seconds > OVERLAP_MAX_SECONDS {
        let detail = format!("overlapSeconds must be from 0 to {OVERLAP_MAX_SECONDS}, got {seconds}");
        return Err(Problem::invalid("overlapSeconds", detail));
    }
    let secret = request.secret.map(|secret| Secret::parse("secret", &secret)).transpose()?;
    let key = key::optional(&headers)?.map(|key| key.to_string());
    let (id, overlap) = (endpoint_id(path)?, Duration::from_secs(seconds));
    let rotated = api.app.rotate_webhook(id, overlap, secret, key.as_deref()).await?;
    Ok(Json(rotated.into()))
}

/// Disable an endpoint: nothing is sent to it, and its events are kept for a week by default. A retry returns the same
/// answer.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/disable", tag = "webhooks",
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = WebhookView), EndpointProblems))]
pub(crate) async fn disable(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    let change = EndpointChange::Disable { reason: "it was disabled by hand".to_owned() };
    Ok(Json(api.app.change_webhook(endpoint_id(path)?, change).await?.into()))
}

/// Enable an endpoint again, close its circuit, and send it the deliveries that were kept. A retry returns the same
/// answer.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/enable", tag = "webhooks",
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = WebhookView), EndpointProblems))]
pub(crate) async fn enable(State(api): State<Api>, path: IdPath) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(api.app.change_webhook(endpoint_id(path)?, EndpointChange::Enable).await?.into()))
}

/// Send a signed test event (`bespeak.webhook.test.v1`) to an endpoint at once, and return its answer.
///
/// This works for a disabled endpoint, too. The event is not stored and not retried.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = TestView), TestProblems))]
pub(crate) async fn test(State(api): State<Api>, path: IdPath) -> Result<Json<TestView>, Problem> {
    Ok(Json(api.app.test_webhook(endpoint_id(path)?).await?.into()))
}
