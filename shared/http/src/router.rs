//! The whole API as one router: the routes, the documents, and the layers around all of them.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::Method,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing,
};
use bespeak::{app::App, envelope::asyncapi, http_options::HttpOptions};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::{Config as DocsConfig, SwaggerUi};

use crate::{
    actuator, base_path,
    compat::Compatibility,
    hosts,
    observe::Observer,
    operations,
    problem::Problem,
    routes::{described, document},
    state::Api,
};

/// The whole API, with its documentation at `/docs`, below the configured base path.
pub fn router(app: Arc<App>, http: HttpOptions) -> Router {
    let base = http.base_path.clone();
    let compat = http.compat.map(Compatibility::new);
    let (observer, allowed_hosts) = (Observer::new(&http, compat.clone()), http.allowed_hosts.clone());
    let actuator = if compat.is_some() { actuator::routes() } else { Router::new() };
    let openapi = document(app.limits(), &http).to_string().into();
    let (routes, _) = described().split_for_parts();
    let routes = routes
        .route("/", routing::get(operations::root))
        .route("/openapi.json", routing::get(operations::openapi))
        .route("/asyncapi.json", routing::get(operations::asyncapi))
        .merge(actuator)
        .with_state(Api {
            app,
            http,
            compat,
            metrics: Arc::default(),
            openapi,
            asyncapi: asyncapi::document().to_string().into(),
        });
    let docs = SwaggerUi::new("/docs").config(DocsConfig::from(format!("{base}/openapi.json")));
    let api = routes
        .merge(docs)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            hosts::check(allowed_hosts.clone(), request, next)
        }))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            observer.clone().observe(request, next)
        }));
    if base.is_empty() {
        return api;
    }
    // The base path is stripped outside the router, so that matched paths, which are labels of metrics, lack it.
    let stripped = ServiceBuilder::new().map_request(move |request| base_path::strip(request, &base));
    Router::new().fallback_service(stripped.service(api))
}

async fn no_such_path(request: Request) -> Problem {
    Problem::no_path(if request.uri().path().starts_with("/api/v1/resources/") {
        "the API has no such path; a slash in a resource id must be written as %2F"
    } else {
        "the API has no such path; /openapi.json and /docs describe the paths that it has"
    })
}

async fn no_such_method(method: Method) -> Problem {
    Problem::method_not_allowed(&method)
}

/// Answers a request whose handler panicked. A panic is a defect: it fails only its own request, and the panic hook has
/// logged it.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal().into_response()
}
