//! The path parameter that the operations on endpoints share.

use axum::extract::{Path, rejection::PathRejection};
use bespeak::webhooks::EndpointId;

use crate::problem::Problem;

/// The `id` in a path, as axum extracts it.
pub(super) type IdPath = Result<Path<String>, PathRejection>;

/// Parses the id of an endpoint.
pub(super) fn endpoint_id(path: IdPath) -> Result<EndpointId, Problem> {
    let Path(id) = path.map_err(|rejection| Problem::invalid("id", rejection.body_text()))?;
    Ok(EndpointId::parse("id", &id)?)
}
