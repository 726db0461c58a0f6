//! The routes: which path and method each handler serves, and the OpenAPI document that follows from them.

use bespeak::{engine::Limits, http_options::HttpOptions};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{import, openapi, operations, reservations, resources, state::Api, webhooks};

/// The routes that the OpenAPI document describes, with their descriptions.
pub(crate) fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(reservations::reserve))
        .routes(routes!(reservations::commit))
        .routes(routes!(reservations::release))
        .routes(routes!(reservations::extend))
        .routes(routes!(reservations::cancel))
        .routes(routes!(reservations::show))
        .routes(routes!(resources::define, resources::list))
        .routes(routes!(import::import, resources::show_import))
        .routes(routes!(resources::show))
        .merge(webhooks::described())
        .routes(routes!(operations::live))
        .routes(routes!(operations::ready))
        .routes(routes!(operations::metrics))
}

/// The OpenAPI document of every API, as JSON: the contract, without the limits of an installation.
pub fn contract() -> Value {
    openapi::contract(described().into_openapi())
}

/// The OpenAPI document of an API with these limits, as JSON.
pub fn document(limits: &Limits, http: &HttpOptions) -> Value {
    openapi::deployment(contract(), limits, http)
}
