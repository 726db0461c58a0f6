//! The operations on deliveries: list, redeliver, replay.

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
};
use bespeak::{
    app::{ReplayPlace, WebhookReplay},
    engine::{Timestamp, Violation},
    store,
    webhooks::{DeliveryId, DeliveryStatus, EndpointId},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    path::{IdPath, endpoint_id},
    views::{DeliveryPage, DeliveryView, ReplayView},
};
use crate::{
    body::JsonBody,
    problem::{Problem, problems},
    query::{self, PageLimit},
    state::Api,
};

/// A span of time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// The start of the span, inclusive.
    #[schema(example = "2026-01-01T00:00:00Z", format = DateTime)]
    from: String,
    /// The end of the span, exclusive.
    #[schema(example = "2026-01-02T00:00:00Z", format = DateTime)]
    to: String,
    /// Enqueue only the events that the endpoint has no delivery for, such as those from before it was created. By
    /// default, its deliveries in the span are sent again too.
    #[serde(default)]
    only_missing: bool,
    /// The `next` of the previous answer, to continue a replay. Everything else must be as in the first request.
    #[schema(example = "e4711")]
    after: Option<String>,
}

problems!(ListProblems: WebhookNotFound, InvalidValue);
problems!(RedeliverProblems: WebhookNotFound, DeliveryNotFound, InvalidValue);
problems!(ReplayProblems: WebhookNotFound, WebhookFull, InvalidValue, WebhookBusy);

/// Parses the end of a span. It is rounded up to the microseconds that events have, which compares with them as the
/// exact time does. A leap second is refused: it would become the second before it.
fn parse_time(field: &str, text: &str) -> Result<Timestamp, Violation> {
    let wrong = || Violation::new(field, "must be a time such as 2026-01-01T00:00:00Z");
    let time: Timestamp = text.parse().ok().filter(|_| !text.contains(":60")).ok_or_else(wrong)?;
    let part = i64::from(time.subsec_nanosecond() % 1_000 > 0);
    Timestamp::from_microsecond(time.as_microsecond() + part).map_err(|_| wrong())
}

fn parse_status(text: &str) -> Result<DeliveryStatus, Problem> {
    DeliveryStatus::parse(text).ok_or_else(|| {
        Problem::invalid("status", format!("status must be PENDING, DELIVERED or FAILED, got {text:?}"))
    })
}

/// List the deliveries of an endpoint, the newest first, one page at a time.
///
/// Deliveries are kept for some time after they succeeded or were given up.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The id of the endpoint"),
        ("status" = Option<String>, Query,
            description = "Only deliveries that are PENDING, DELIVERED or FAILED (given up)"),
        ("limit" = Option<u32>, Query, description = "The number of deliveries on the page: 1 to 1000, by default 100"),
        ("after" = Option<i64>, Query, description = "Start after this id: the `next` of the previous page"),
    ),
    responses((status = 200, body = DeliveryPage), ListProblems))]
pub(crate) async fn list(
    State(api): State<Api>,
    path: IdPath,
    RawQuery(given): RawQuery,
) -> Result<Json<DeliveryPage>, Problem> {
    let endpoint = endpoint_id(path)?;
    let (mut limit, mut after, mut status) = (PageLimit::default(), None, None);
    for (name, value) in query::parameters(given.as_deref())? {
        match &*name {
            "limit" => limit = PageLimit::parse(&value)?,
            "after" => after = Some(DeliveryId::parse("after", &value)?),
            "status" => status = Some(parse_status(&value)?),
            other => return Err(query::unknown(other, "status, limit, after")),
        }
    }
    let wanted = store::webhooks::DeliveryPage { endpoint, status, after, limit: limit.rows_to_read() };
    let page = query::page(api.app.webhook_deliveries(wanted).await?, limit, |last| last.id.number());
    Ok(Json(DeliveryPage {
        deliveries: page.rows.into_iter().map(DeliveryView::from).collect(),
        next: page.next,
    }))
}

/// Redeliver an event, whatever its status: the delivery is pending again, with all its attempts ahead.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/deliveries/{deliveryId}/redeliver", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The id of the endpoint"),
        ("deliveryId" = i64, Path, description = "The id of the delivery"),
    ),
    responses((status = 200, body = DeliveryView), RedeliverProblems))]
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

/// Replay the events of a span of time, a page at a time.
///
/// The span is compared with the time of the events. Each delivery in it that is still kept is pending again, whatever
/// its status, with all its attempts ahead. Then the events in it that the endpoint subscribes to and has no delivery
/// for are enqueued, as far as the outbox still has them (`BESPEAK_EVENT_RETENTION_HOURS`): a new endpoint gets the
/// events from before it was created. One request handles about 10,000 deliveries; if the answer has `next`, repeat
/// the request with `after`.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/replay", tag = "webhooks", request_body = ReplayRequest,
    params(("id" = String, Path, description = "The id of the endpoint")),
    responses((status = 200, body = ReplayView), ReplayProblems))]
pub(crate) async fn replay(
    State(api): State<Api>,
    path: IdPath,
    JsonBody(request): JsonBody<ReplayRequest>,
) -> Result<Json<ReplayView>, Problem> {
    let endpoint = endpoint_id(path)?;
    let (from, to) = (parse_time("from", &request.from)?, parse_time("to", &request.to)?);
    if from >= to {
        return Err(Problem::invalid("to", format!("to must be later than from ({from}), got {to}")));
    }
    let after = request.after.map(|after| ReplayPlace::parse("after", &after)).transpose()?;
    let replay = WebhookReplay { endpoint, from, to, only_missing: request.only_missing, after };
    Ok(Json(api.app.replay_webhook(replay).await?.into()))
}
