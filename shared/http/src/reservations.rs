//! Reserve, commit, release, extend, cancel, show.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use bespeak::{
    app::{Booked, Reply},
    engine::{Item, Items, Limits, Metadata, ReserveDraft, ResourceId, Token, Violation},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    body::{JsonBody, Object},
    key,
    problem::{Problem, ProblemBody},
    router::Api,
    views::ReservationView,
};

/// What to hold: `resourceId` and `quantity`, or `items`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReserveRequest {
    /// The resource, where there is one.
    #[schema(example = "room-101")]
    resource_id: Option<String>,
    /// How many units of it.
    #[schema(example = 1)]
    quantity: Option<u64>,
    /// What to hold where there is more than one resource, all or nothing; the same resource twice is merged.
    #[schema(value_type = Option<Vec<ItemRequest>>)]
    items: Option<Vec<Object<ItemRequest>>>,
    /// For how long, in seconds.
    #[schema(example = 300)]
    ttl_seconds: Option<u64>,
    /// On whose behalf.
    holder: Option<String>,
    /// A JSON object to attach.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// A resource and how many units of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ItemRequest {
    #[schema(example = "room-101")]
    resource_id: String,
    #[schema(example = 1)]
    quantity: u64,
}

/// Which reservation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
}

/// Which hold, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExtendRequest {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
    /// Counted from now, in seconds.
    ttl_seconds: u64,
}

impl ReserveRequest {
    fn parse(self, headers: &HeaderMap, limits: &Limits) -> Result<ReserveDraft, Problem> {
        let key = key::required(headers)?;
        let items = match (self.resource_id, self.quantity, self.items) {
            (Some(id), Some(units), None) => vec![item("", &id, units, limits)?],
            (None, None, Some(items)) => items
                .iter()
                .enumerate()
                .map(|(n, Object(given))| {
                    item(&format!("items[{n}]."), &given.resource_id, given.quantity, limits)
                })
                .collect::<Result<_, _>>()?,
            (_, _, Some(_)) => {
                return Err(Problem::invalid(
                    "items",
                    "items cannot be sent together with resourceId or quantity",
                ));
            }
            (None, _, None) => {
                return Err(Problem::invalid("resourceId", "resourceId (or items) is required"));
            }
            (Some(_), None, None) => return Err(Problem::invalid("quantity", "quantity is required")),
        };
        Ok(ReserveDraft {
            items: Items::new(items, limits)?,
            ttl: limits.ttl("ttlSeconds", self.ttl_seconds)?,
            holder: self.holder.map(|holder| limits.holder(&holder)).transpose()?,
            metadata: self.metadata.map(|metadata| Metadata::new(metadata, limits)).transpose()?,
            key,
        })
    }
}

fn item(path: &str, id: &str, units: u64, limits: &Limits) -> Result<Item, Violation> {
    Ok(Item {
        resource_id: ResourceId::new(&format!("{path}resourceId"), id)?,
        quantity: limits.quantity(&format!("{path}quantity"), units)?,
    })
}

fn answer(reply: Reply<Booked>) -> Result<Json<ReservationView>, Problem> {
    Ok(Json(reply?.reservation.into()))
}

/// Hold units for a while, all or nothing.
///
/// The same key and body never take stock twice: a retry is answered with the reservation that the first request made,
/// as it is now, and `Idempotent-Replayed: true`. A refusal is not remembered; the same key may be tried again.
#[utoipa::path(post, path = "/api/v1/reserve", tag = "reservations",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters, bare or as a quoted Structured-Field string. It is \
            remembered for as long as its reservation is kept.")),
    request_body = ReserveRequest,
    responses(
        (status = 200, body = ReservationView, headers(("Idempotent-Replayed" = String, description = "`true` on the answer to a retry"))),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "malformed-body, idempotency-key-missing, idempotency-key-malformed"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "resource-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "out-of-stock; with Retry-After and nextReleaseAt when a hold will end"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value, idempotency-key-reused"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "rate-limited: the holder asks more often than the server allows; with Retry-After. Answers to retries are not counted, and requests without a holder are not limited"),
    ))]
pub(crate) async fn reserve(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Result<Response, Problem> {
    let draft = request.parse(&headers, api.app.limits())?;
    let booked = api.app.reserve_within_limit(draft).await?;
    let mut response = Json(ReservationView::from(booked.reservation)).into_response();
    if booked.replayed {
        let replayed = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Make a hold final. Doing it again is answered the same.
#[utoipa::path(post, path = "/api/v1/commit", tag = "reservations", request_body = TokenRequest,
    responses(
        (status = 200, body = ReservationView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "reservation-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "already-released, already-cancelled"),
        (status = 410, body = ProblemBody, content_type = "application/problem+json", description = "hold-expired"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn commit(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(api.app.commit(Token::parse("token", &request.token)?).await)
}

/// Give a hold back. Doing it again is answered the same.
#[utoipa::path(post, path = "/api/v1/release", tag = "reservations", request_body = TokenRequest,
    responses(
        (status = 200, body = ReservationView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "reservation-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "already-committed, already-cancelled"),
        (status = 410, body = ProblemBody, content_type = "application/problem+json", description = "hold-expired"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn release(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(api.app.release(Token::parse("token", &request.token)?).await)
}

/// Lengthen a hold.
///
/// It ends at the later of its present end and `ttlSeconds` from now, but never later than its longest life after it was
/// made.
#[utoipa::path(post, path = "/api/v1/extend", tag = "reservations", request_body = ExtendRequest,
    responses(
        (status = 200, body = ReservationView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "reservation-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "already-committed, already-released, already-cancelled"),
        (status = 410, body = ProblemBody, content_type = "application/problem+json", description = "hold-expired"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn extend(
    State(api): State<Api>,
    JsonBody(request): JsonBody<ExtendRequest>,
) -> Result<Json<ReservationView>, Problem> {
    let token = Token::parse("token", &request.token)?;
    let ttl = api.app.limits().ttl("ttlSeconds", Some(request.ttl_seconds))?;
    answer(api.app.extend(token, ttl).await)
}

/// Give a committed reservation back; its units are for sale again. Doing it again is answered the same.
#[utoipa::path(post, path = "/api/v1/cancel", tag = "reservations", request_body = TokenRequest,
    responses(
        (status = 200, body = ReservationView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "reservation-not-found"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "not-committed; reservationStatus says what it is"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn cancel(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(api.app.cancel(Token::parse("token", &request.token)?).await)
}

/// A reservation as it is now, with its SmartKey once issued.
#[utoipa::path(get, path = "/api/v1/reservations/{token}", tag = "reservations",
    params(("token" = String, Path, description = "The reservation's token")),
    responses(
        (status = 200, body = ReservationView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "reservation-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn show(
    State(api): State<Api>,
    token: Result<Path<String>, PathRejection>,
) -> Result<Json<ReservationView>, Problem> {
    let Path(token) = token.map_err(|rejection| Problem::invalid("token", rejection.body_text()))?;
    let token = Token::parse("token", &token)?;
    match api.app.reservation(token).await? {
        Some((reservation, key)) => Ok(Json(ReservationView::from(reservation).with_key(key.as_ref()))),
        None => Err(Problem::no_reservation()),
    }
}
