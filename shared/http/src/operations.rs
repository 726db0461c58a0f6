//! Operations: health checks, metrics, and the documents that describe the API and its events.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use bespeak::telemetry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    problem::{Problem, problems},
    state::Api,
};

/// The result of a health check.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

problems!(ReadyProblems: Unavailable);

/// Check that the process runs. Restart it if this check does not answer 200.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, body = Health), ReadyProblems))]
pub(crate) async fn live(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    match api.app.task_failure() {
        Some(failure) => Err(Problem::task_ended(failure.task)),
        None => Ok(Json(Health { status: "ok" })),
    }
}

/// Check that requests can be served. Send no requests if this check does not answer 200.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, body = Health), ReadyProblems))]
pub(crate) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    api.app.ready().await?;
    Ok(Json(Health { status: "ok" }))
}

/// Get the metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
pub(crate) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    Ok(prometheus_text(metrics_page(&api).await?))
}

/// The metrics in the text format of Prometheus.
pub(crate) async fn metrics_page(api: &Api) -> Result<Bytes, Problem> {
    let Ok(metrics) = telemetry::metrics() else { return Err(Problem::internal()) };
    let page = async {
        api.app.refresh_metrics().await;
        Bytes::from(metrics.render())
    };
    Ok(api.metrics.get(page).await)
}

/// An answer in the text format of Prometheus.
pub(crate) fn prometheus_text(text: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Redirects a browser that opens the base path to the documentation.
pub(crate) async fn root(State(api): State<Api>) -> Redirect {
    // Temporary, so that no browser remembers it for another service on the same address.
    Redirect::temporary(&format!("{}/docs/", api.http.base_path))
}

/// Whether a path is that of a health check, with or without the base path. Such a request is answered whatever host it
/// names, and beyond the limit of connections.
pub(crate) fn is_health_check(path: &str, base: &str) -> bool {
    let path = path.strip_prefix(base).unwrap_or(path);
    path.starts_with("/health/") || path == "/actuator/health" || path.starts_with("/actuator/health/")
}

/// The AsyncAPI document, which describes the published events.
pub(crate) async fn asyncapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.asyncapi.to_string()).into_response()
}

/// The OpenAPI document, which describes this API.
pub(crate) async fn openapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi.to_string()).into_response()
}
