//! The table of problem types: each slug, its status, its title, its meaning and its members are written once, here.
//!
//! `details.rs` answers by this table, `responses.rs` and `schema.rs` describe it in the OpenAPI document, and
//! `docs/api.md` lists it. A slug is part of the public contract: clients compare it, so a slug never changes and is
//! never reused. Next: [`Members`](super::details::Members) for the members that a row can name.

use axum::http::StatusCode;

/// Declares the table. The documentation comment of a kind is its description in the OpenAPI document. The members
/// after `with` are in every answer of the kind, and those after `maybe` in some.
macro_rules! kinds {
    ($($(#[doc = $meaning:literal])+ $kind:ident = $status:ident $slug:literal $title:literal
        $(with $($required:literal)+)? $(maybe $($optional:literal)+)?;)+) => {
        /// A problem type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($(#[doc = $meaning])+ $kind,)+
        }

        impl Kind {
            /// Every kind, in the order of statuses.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),+];

            /// The stable name: the member `type` of the problem details.
            pub(crate) const fn slug(self) -> &'static str {
                match self {
                    $(Self::$kind => $slug,)+
                }
            }

            /// The HTTP status.
            pub(crate) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)+
                }
            }

            /// The title: the same for every problem of this kind.
            pub(crate) const fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)+
                }
            }

            /// When it is answered, as one or more sentences.
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($meaning),+).trim_ascii(),)+
                }
            }

            /// The members that every answer of this kind has, beside those of every problem.
            pub(crate) const fn required_members(self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind => &[$($($required),+)?],)+
                }
            }

            /// The members that some answers of this kind have.
            pub(crate) const fn optional_members(self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind => &[$($($optional),+)?],)+
                }
            }

            /// The name of its schema in the OpenAPI document, such as `OutOfStockProblem`.
            pub(crate) const fn schema_name(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!(stringify!($kind), "Problem"),)+
                }
            }
        }
    };
}

kinds! {
    /// The connection closed before the head of the request was complete.
    MalformedRequest = BAD_REQUEST "malformed-request" "Malformed request";
    /// The body is not valid JSON.
    MalformedBody = BAD_REQUEST "malformed-body" "Malformed body";
    /// The header `Idempotency-Key` is missing.
    IdempotencyKeyMissing = BAD_REQUEST "idempotency-key-missing" "Idempotency key missing" with "field";
    /// The header `Idempotency-Key` is not a valid key, or was sent more than once.
    IdempotencyKeyMalformed = BAD_REQUEST "idempotency-key-malformed" "Idempotency key malformed" with "field";
    /// The API has no such path.
    NotFound = NOT_FOUND "not-found" "No such path";
    /// There is no such resource.
    ResourceNotFound = NOT_FOUND "resource-not-found" "No such resource" with "resourceId";
    /// No reservation has this token.
    ReservationNotFound = NOT_FOUND "reservation-not-found" "No such reservation";
    /// There is no such webhook endpoint.
    WebhookNotFound = NOT_FOUND "webhook-not-found" "No such webhook";
    /// The webhook endpoint has no such delivery.
    DeliveryNotFound = NOT_FOUND "delivery-not-found" "No such delivery";
    /// The path does not accept this method.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed" "Method not allowed";
    /// The request did not arrive in time.
    RequestTimeout = REQUEST_TIMEOUT "request-timeout" "Request timeout";
    /// The reservation was committed before.
    AlreadyCommitted = CONFLICT "already-committed" "Already committed" with "reservationStatus";
    /// The hold was released before.
    AlreadyReleased = CONFLICT "already-released" "Already released" with "reservationStatus";
    /// The reservation was cancelled before.
    AlreadyCancelled = CONFLICT "already-cancelled" "Already cancelled" with "reservationStatus";
    /// Only a committed reservation can be cancelled; `reservationStatus` is the present status.
    NotCommitted = CONFLICT "not-committed" "Not committed" with "reservationStatus";
    /// The idempotency key made a reservation whose units were given back since: its hold was released or expired, or
    /// it was cancelled. `reservation` is that reservation. Nothing is held, and a new attempt needs a new key.
    ReservationEnded = CONFLICT "reservation-ended" "Reservation ended" with "reservationStatus" "reservation";
    /// The hold has not expired yet.
    NotDue = CONFLICT "not-due" "Not due" with "reservationStatus";
    /// Not enough units are available. If a hold will expire, the answer has `Retry-After` and `nextReleaseAt`.
    OutOfStock = CONFLICT "out-of-stock" "Out of stock"
        with "resourceId" "requested" "availableStock" maybe "nextReleaseAt";
    /// The total would fall below the number of units that are held or committed.
    StockInUse = CONFLICT "stock-in-use" "Stock in use" with "resourceId" "requested" "inUse";
    /// The endpoint belongs to the configuration, so the API cannot change it.
    WebhookOfEnvironment = CONFLICT "webhook-of-environment" "Webhook of the environment";
    /// There are as many webhook endpoints as the configuration allows.
    WebhookLimit = CONFLICT "webhook-limit" "Too many webhooks";
    /// Four replaced secrets of the endpoint still sign. Rotate again when one of them has ended, or with
    /// `overlapSeconds` 0, which ends all of them at once.
    WebhookSecretLimit = CONFLICT "webhook-secret-limit" "Too many secrets";
    /// Too many deliveries of the endpoint are pending to replay further ones.
    WebhookFull = CONFLICT "webhook-full" "Too many deliveries pending";
    /// The hold expired.
    HoldExpired = GONE "hold-expired" "Hold expired" with "reservationStatus" "expiredAt";
    /// The body is larger than the configured limit.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body-too-large" "Body too large";
    /// The body has the wrong `Content-Type`.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "Unsupported media type" with "field";
    /// The server does not accept requests in the name of this host; `field` is `Host` or `Origin`. The setting
    /// `BESPEAK_ALLOWED_HOSTS` lists the hosts.
    HostNotAllowed = MISDIRECTED_REQUEST "host-not-allowed" "Host not allowed" with "field";
    /// A value is not valid; `field` names it.
    InvalidValue = UNPROCESSABLE_ENTITY "invalid-value" "Invalid value" with "field";
    /// The idempotency key was used before, for a different request.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY "idempotency-key-reused" "Idempotency key reused" with "field";
    /// The holder sends more requests than the server allows; `Retry-After` is sent. Answers to retries are not
    /// counted, and requests without a holder are not limited.
    RateLimited = TOO_MANY_REQUESTS "rate-limited" "Too many requests";
    /// As many tests, replays or deletions of webhooks run as may at the same time; `Retry-After` is sent.
    WebhookBusy = TOO_MANY_REQUESTS "webhook-busy" "Too many webhook operations";
    /// The server has a defect; its log has the cause.
    InternalError = INTERNAL_SERVER_ERROR "internal-error" "Internal error";
    /// The request cannot be served at present; retry it after `Retry-After`.
    Unavailable = SERVICE_UNAVAILABLE "unavailable" "Temporarily unavailable";
    /// Expired holds of the resource are still being returned to its stock; retry after `Retry-After`.
    ExpiryBacklog = SERVICE_UNAVAILABLE "expiry-backlog" "Expired holds are being returned to stock" with "resourceId";
}

impl Kind {
    /// The kind with this slug.
    pub(crate) fn of_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.slug() == slug)
    }

    /// Whether its answers can have the header `Retry-After`.
    pub(crate) const fn has_retry_after(self) -> bool {
        matches!(
            self,
            Self::OutOfStock
                | Self::RateLimited
                | Self::WebhookBusy
                | Self::Unavailable
                | Self::ExpiryBacklog
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use axum::http::Uri;

    use super::{super::details::Members, *};

    #[test]
    fn slugs_are_unique_kebab_case_uri_references() {
        let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len(), "a slug is in the table twice");
        for kind in Kind::ALL {
            let slug = kind.slug();
            assert!(slug.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{slug}");
            assert!(slug.parse::<Uri>().is_ok(), "{slug}");
        }
    }

    #[test]
    fn members_are_those_of_the_struct_and_are_listed_once() {
        let known: HashSet<String> = Members::schemas().into_iter().map(|(name, _)| name).collect();
        for kind in Kind::ALL {
            let members = [kind.required_members(), kind.optional_members()].concat();
            assert!(members.iter().all(|name| known.contains(*name)), "{kind:?}: {members:?} {known:?}");
            assert_eq!(members.iter().collect::<HashSet<_>>().len(), members.len(), "{kind:?}: {members:?}");
        }
    }

    #[test]
    fn kinds_have_an_error_status_a_title_and_a_meaning() {
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(!kind.title().is_empty() && kind.meaning().ends_with('.'), "{kind:?}");
            assert!(!kind.meaning().contains("  "), "{kind:?}: {}", kind.meaning());
        }
    }
}
