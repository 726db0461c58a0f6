//! What operators and machines ask for: health, metrics, the API's description.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bespeak::telemetry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    problem::{Problem, ProblemBody},
    router::Api,
};

/// Health.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process runs: restart it if this does not answer.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, body = Health)))]
pub(crate) async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether requests can be served: send none if this does not answer 200.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, body = Health),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "unavailable"),
    ))]
pub(crate) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    api.app.ready().await?;
    Ok(Json(Health { status: "ok" }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
pub(crate) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let Ok(metrics) = telemetry::metrics() else { return Err(Problem::internal()) };
    api.app.refresh_metrics().await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
        .into_response())
}

/// The AsyncAPI document: the events that are published.
pub(crate) async fn asyncapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.events.to_string()).into_response()
}

/// The OpenAPI document.
pub(crate) async fn openapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.to_string()).into_response()
}
