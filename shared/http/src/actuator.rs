//! The paths of Spring Boot's actuator, which probes and dashboards of OpenReserve use. They exist only with
//! `BESPEAK_COMPAT=openreserve`, and the OpenAPI document does not describe them.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    operations::{metrics_page, prometheus_text},
    problem::Problem,
    state::Api,
};

/// The routes.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/actuator/health", get(health))
        .route("/actuator/health/readiness", get(health))
        .route("/actuator/health/liveness", get(liveness))
        .route("/actuator/prometheus", get(prometheus))
}

/// `UP` if requests can be served, else `DOWN` with 503.
async fn health(State(api): State<Api>) -> Response {
    match api.app.ready().await {
        Ok(()) => up(),
        Err(_) => down(),
    }
}

/// `UP` unless the process should be restarted.
async fn liveness(State(api): State<Api>) -> Response {
    match api.app.task_failure() {
        None => up(),
        Some(_) => down(),
    }
}

fn up() -> Response {
    Json(json!({"status": "UP"})).into_response()
}

fn down() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "DOWN"}))).into_response()
}

/// The metrics of Bespeak and those of OpenReserve.
async fn prometheus(State(api): State<Api>) -> Result<Response, Problem> {
    let page = metrics_page(&api).await?;
    let ours = String::from_utf8_lossy(&page);
    let theirs = api.compat.as_ref().map(|compat| compat.metrics(&ours)).unwrap_or_default();
    Ok(prometheus_text(format!("{ours}{theirs}")))
}
