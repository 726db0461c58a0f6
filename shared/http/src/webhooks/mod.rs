//! The operations on webhooks: `endpoints.rs` for endpoints, `deliveries.rs` for their deliveries.

mod deliveries;
mod endpoints;
mod path;
mod views;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::state::Api;

/// The routes of webhooks, with their descriptions.
pub(crate) fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(endpoints::create, endpoints::list))
        .routes(routes!(endpoints::show, endpoints::change, endpoints::delete))
        .routes(routes!(endpoints::rotate))
        .routes(routes!(endpoints::disable))
        .routes(routes!(endpoints::enable))
        .routes(routes!(endpoints::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(deliveries::replay))
}
