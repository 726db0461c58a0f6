//! Which path is which handler, and what stands around all of them.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::Method,
    middleware,
    response::{IntoResponse, Response},
};
use bespeak::{app::App, envelope::asyncapi, http_options::HttpOptions};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config as DocsConfig, SwaggerUi};

use crate::{
    base_path, import, observe::observe, openapi, operations, problem::Problem, reservations, resources,
    webhooks,
};

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) http: HttpOptions,
    pub(crate) document: Arc<str>,
    pub(crate) events: Arc<str>,
}

/// The routes, and their description.
pub(crate) fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(reservations::reserve))
        .routes(routes!(reservations::commit))
        .routes(routes!(reservations::release))
        .routes(routes!(reservations::extend))
        .routes(routes!(reservations::cancel))
        .routes(routes!(reservations::show))
        .routes(routes!(resources::define, resources::list))
        .routes(routes!(import::import))
        .routes(routes!(resources::show))
        .merge(webhooks::described())
        .routes(routes!(operations::live))
        .routes(routes!(operations::ready))
        .routes(routes!(operations::metrics))
}

/// The whole API.
pub fn router(app: Arc<App>, http: HttpOptions) -> Router {
    let base = http.base_path.clone();
    let document: Arc<str> = openapi::document(app.limits(), &http).to_string().into();
    let (routes, _) = described().split_for_parts();
    // A resource may be called `import`; its path is then that of the import, with another method.
    let routes = routes
        .route("/api/v1/resources/import", axum::routing::get(resources::show_import))
        .route("/openapi.json", axum::routing::get(operations::openapi))
        .route("/asyncapi.json", axum::routing::get(operations::asyncapi))
        .with_state(Api { app, http, document, events: asyncapi::document().to_string().into() });
    let docs = SwaggerUi::new("/docs").config(DocsConfig::from(format!("{base}/openapi.json")));
    let api = routes
        .merge(docs)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(observe));
    if base.is_empty() {
        return api;
    }
    // Around the routes, whose paths are labels of metrics.
    let stripped = ServiceBuilder::new().map_request(move |request| base_path::strip(request, &base));
    Router::new().fallback_service(stripped.service(api))
}

async fn no_such_path(request: Request) -> Problem {
    let detail = if request.uri().path().starts_with("/api/v1/resources/") {
        "there is nothing at this path; in a resource id, a slash is written %2F"
    } else {
        "there is nothing at this path; the API is described at /openapi.json and /docs"
    };
    Problem::not_found("not-found", "No such path", detail)
}

async fn no_such_method(method: Method) -> Problem {
    Problem::method_not_allowed(&method)
}

/// A panic is a defect; it fails the one request that met it. The panic hook has logged it.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal().into_response()
}
