//! The operations on reservations: reserve, commit, release, extend, cancel, show.

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
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    body::{JsonBody, Object},
    key,
    problem::{Problem, problems},
    state::Api,
    views::ReservationView,
    whole::Whole,
};

/// The units to hold: either `resourceId` and `quantity`, or `items`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReserveRequest {
    /// The resource, if there is only one.
    #[schema(example = "room-101")]
    resource_id: Option<String>,
    /// The number of units of that resource.
    #[schema(example = 1, value_type = Option<u64>)]
    quantity: Option<Whole>,
    /// The units to hold of several resources, all or nothing. Items of the same resource are merged.
    #[schema(value_type = Option<Vec<ItemRequest>>)]
    items: Option<Vec<Object<ItemRequest>>>,
    /// How long the hold lasts, in seconds.
    #[schema(example = 300, value_type = Option<u64>)]
    ttl_seconds: Option<Whole>,
    /// The customer on whose behalf the units are held.
    holder: Option<String>,
    /// A JSON object to attach to the reservation.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

/// A resource and a number of its units.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ItemRequest {
    #[schema(example = "room-101")]
    resource_id: String,
    #[schema(example = 1, value_type = u64)]
    quantity: Whole,
}

/// The reservation to act on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
}

/// The hold to extend, and its new duration.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExtendRequest {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
    /// How long the hold lasts from now, in seconds.
    #[schema(value_type = u64)]
    ttl_seconds: Whole,
}

problems!(
    ReserveProblems: MalformedBody,
    IdempotencyKeyMissing,
    IdempotencyKeyMalformed,
    ResourceNotFound,
    OutOfStock,
    ReservationEnded,
    InvalidValue,
    IdempotencyKeyReused,
    RateLimited,
    ExpiryBacklog
);
problems!(
    CommitProblems: ReservationNotFound,
    AlreadyReleased,
    AlreadyCancelled,
    HoldExpired,
    InvalidValue
);
problems!(
    ReleaseProblems: ReservationNotFound,
    AlreadyCommitted,
    AlreadyCancelled,
    HoldExpired,
    InvalidValue
);
problems!(
    ExtendProblems: ReservationNotFound,
    AlreadyCommitted,
    AlreadyReleased,
    AlreadyCancelled,
    HoldExpired,
    InvalidValue
);
problems!(CancelProblems: ReservationNotFound, NotCommitted, InvalidValue);
problems!(ShowProblems: ReservationNotFound, InvalidValue);

impl ReserveRequest {
    /// Checks the request against the limits.
    fn parse(self, headers: &HeaderMap, limits: &Limits) -> Result<ReserveDraft, Problem> {
        let key = key::required(headers)?;
        let items = match (self.resource_id, self.quantity, self.items) {
            (Some(id), Some(Whole(units)), None) => vec![item("", &id, units, limits)?],
            (None, None, Some(items)) => items
                .iter()
                .enumerate()
                .map(|(n, Object(given))| {
                    item(&format!("items[{n}]."), &given.resource_id, given.quantity.0, limits)
                })
                .collect::<Result<_, _>>()?,
            (_, _, Some(_)) => {
                return Err(Problem::invalid(
                    "items",
                    "items must not be sent together with resourceId or quantity",
                ));
            }
            (None, _, None) => {
                return Err(Problem::invalid("resourceId", "resourceId (or items) is required"));
            }
            (Some(_), None, None) => return Err(Problem::invalid("quantity", "quantity is required")),
        };
        Ok(ReserveDraft {
            items: Items::new(items, limits)?,
            ttl: limits.ttl("ttlSeconds", self.ttl_seconds.map(|Whole(seconds)| seconds))?,
            holder: self.holder.map(|holder| limits.holder(&holder)).transpose()?,
            metadata: self.metadata.map(|metadata| Metadata::new(&metadata, limits)).transpose()?,
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

fn answer(api: &Api, reply: Reply<Booked>) -> Result<Json<ReservationView>, Problem> {
    Ok(Json(api.view(reply?.reservation)))
}

/// Hold units for a limited time, all or nothing.
///
/// The same key and body never take stock twice: while its units are held or committed, a retry returns the reservation
/// that the first request made, in its present state, with `Idempotent-Replayed: true`. A retry never answers 200 for
/// units that were given back: if the hold was released or expired, or the reservation was cancelled, the answer is 409
/// `reservation-ended`. Other refusals are not stored, so the same key may be used again.
#[utoipa::path(post, path = "/api/v1/reserve", tag = "reservations",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters, bare or as a quoted Structured-Field string. The \
            key is stored for as long as its reservation.")),
    request_body = ReserveRequest,
    responses(
        (status = 200, body = ReservationView,
            headers(("Idempotent-Replayed" = String, description = "`true` in the answer to a retry"))),
        ReserveProblems,
    ))]
pub(crate) async fn reserve(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Result<Response, Problem> {
    let draft = request.parse(&headers, api.app.limits())?;
    let reply = api.app.reserve_within_limit(draft).await;
    let booked = reply.map_err(|rejected| api.problem(rejected.into()))?;
    let mut response = Json(api.view(booked.reservation)).into_response();
    if booked.replayed {
        let replayed = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Make a hold final. A retry returns the same answer.
#[utoipa::path(post, path = "/api/v1/commit", tag = "reservations", request_body = TokenRequest,
    responses((status = 200, body = ReservationView), CommitProblems))]
pub(crate) async fn commit(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(&api, api.app.commit(Token::parse("token", &request.token)?).await)
}

/// Return the units of a hold to stock. A retry returns the same answer.
#[utoipa::path(post, path = "/api/v1/release", tag = "reservations", request_body = TokenRequest,
    responses((status = 200, body = ReservationView), ReleaseProblems))]
pub(crate) async fn release(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(&api, api.app.release(Token::parse("token", &request.token)?).await)
}

/// Extend a hold.
///
/// The hold then expires `ttlSeconds` from now, but not earlier than before, and never later than the maximum lifetime
/// of a hold after it was made.
#[utoipa::path(post, path = "/api/v1/extend", tag = "reservations", request_body = ExtendRequest,
    responses((status = 200, body = ReservationView), ExtendProblems))]
pub(crate) async fn extend(
    State(api): State<Api>,
    JsonBody(request): JsonBody<ExtendRequest>,
) -> Result<Json<ReservationView>, Problem> {
    let token = Token::parse("token", &request.token)?;
    let ttl = api.app.limits().ttl("ttlSeconds", Some(request.ttl_seconds.0))?;
    answer(&api, api.app.extend(token, ttl).await)
}

/// Cancel a committed reservation: its units are available again. A retry returns the same answer.
#[utoipa::path(post, path = "/api/v1/cancel", tag = "reservations", request_body = TokenRequest,
    responses((status = 200, body = ReservationView), CancelProblems))]
pub(crate) async fn cancel(
    State(api): State<Api>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<ReservationView>, Problem> {
    answer(&api, api.app.cancel(Token::parse("token", &request.token)?).await)
}

/// Get the present state of a reservation, with its SmartKey once that is issued.
#[utoipa::path(get, path = "/api/v1/reservations/{token}", tag = "reservations",
    params(("token" = String, Path, description = "The reservation's token")),
    responses((status = 200, body = ReservationView), ShowProblems))]
pub(crate) async fn show(
    State(api): State<Api>,
    token: Result<Path<String>, PathRejection>,
) -> Result<Json<ReservationView>, Problem> {
    let Path(token) = token.map_err(|rejection| Problem::invalid("token", rejection.body_text()))?;
    let token = Token::parse("token", &token)?;
    match api.app.reservation(token).await? {
        Some((reservation, key)) => Ok(Json(api.view(reservation).with_key(key.as_ref()))),
        None => Err(Problem::no_reservation()),
    }
}
