//! Deliveries: list them, and have them made again.

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
};
use bespeak::{
    engine::{Timestamp, Violation},
    store::webhooks::DeliveryPage as Page,
    webhooks::{DeliveryId, DeliveryStatus, EndpointId},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    IdPath, id,
    views::{DeliveryPage, DeliveryView, ReplayView},
};
use crate::{
    body::JsonBody,
    problem::{Problem, ProblemBody},
    query,
    router::Api,
};

/// Which events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// Those that happened from then on, that instant included.
    #[schema(example = "2026-01-01T00:00:00Z", format = DateTime)]
    from: String,
    /// Those that happened before then, that instant not included.
    #[schema(example = "2026-01-02T00:00:00Z", format = DateTime)]
    to: String,
}

fn time(field: &str, text: &str) -> Result<Timestamp, Violation> {
    text.parse().map_err(|_| Violation::new(field, "must be a time such as 2026-01-01T00:00:00Z"))
}

fn status(text: &str) -> Result<DeliveryStatus, Problem> {
    DeliveryStatus::parse(text)
        .ok_or_else(|| Problem::invalid("status", "status must be PENDING, DELIVERED or FAILED"))
}

/// An endpoint's deliveries, the newest first, a page at a time.
///
/// They are kept for a while after they were made or given up.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The endpoint's id"),
        ("status" = Option<String>, Query, description = "Only those that are PENDING, DELIVERED or FAILED (given up)"),
        ("limit" = Option<u32>, Query, description = "Deliveries on the page: 1 to 1000, 100 where not given"),
        ("after" = Option<i64>, Query, description = "Start after this id: the `next` of the page before"),
    ),
    responses(
        (status = 200, body = DeliveryPage),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn list(
    State(api): State<Api>,
    path: IdPath,
    RawQuery(asked): RawQuery,
) -> Result<Json<DeliveryPage>, Problem> {
    let mut page = Page { endpoint: id(path)?, status: None, after: None, limit: query::PAGE_DEFAULT };
    for (name, value) in query::parameters(asked.as_deref()) {
        match &*name {
            "limit" => page.limit = query::limit(&value)?,
            "after" => page.after = Some(DeliveryId::parse("after", &value)?),
            "status" => page.status = Some(status(&value)?),
            other => return Err(query::unknown(other, "status, limit, after")),
        }
    }
    // One more than asked for tells whether there is a next page.
    let limit = page.limit as usize;
    page.limit += 1;
    let mut deliveries = api.app.webhook_deliveries(page).await?;
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next = if more { deliveries.last().map(|last| last.id.number()) } else { None };
    Ok(Json(DeliveryPage { deliveries: deliveries.into_iter().map(DeliveryView::from).collect(), next }))
}

/// Make a delivery again, whatever became of it: it is pending, with all its attempts before it.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/deliveries/{deliveryId}/redeliver", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The endpoint's id"),
        ("deliveryId" = i64, Path, description = "The delivery's id"),
    ),
    responses(
        (status = 200, body = DeliveryView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found, delivery-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn redeliver(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<DeliveryView>, Problem> {
    let Path((endpoint, delivery)) =
        path.map_err(|rejection| Problem::invalid("id", rejection.body_text()))?;
    let endpoint = EndpointId::parse("id", &endpoint)?;
    let delivery = DeliveryId::parse("deliveryId", &delivery)?;
    Ok(Json(api.app.redeliver_webhook(endpoint, delivery).await?.into()))
}

/// Make the deliveries of a span of time again, whatever became of them.
///
/// Those that are still kept, by the time of their events. Each is pending, with all its attempts before it.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/replay", tag = "webhooks", request_body = ReplayRequest,
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, body = ReplayView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "webhook-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn replay(
    State(api): State<Api>,
    path: IdPath,
    JsonBody(request): JsonBody<ReplayRequest>,
) -> Result<Json<ReplayView>, Problem> {
    let endpoint = id(path)?;
    let (from, to) = (time("from", &request.from)?, time("to", &request.to)?);
    if from >= to {
        return Err(Problem::invalid("to", "to must be later than from"));
    }
    Ok(Json(ReplayView { deliveries: api.app.replay_webhook(endpoint, from, to).await? }))
}
