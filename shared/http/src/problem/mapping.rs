//! Refusals and failures of the library as problems: the one place that decides their HTTP statuses.
//!
//! The library knows no HTTP. Each match is exhaustive, so a new refusal does not compile until it has a status.

use bespeak::{
    app::{Rejected, ReserveRefusal},
    coordination::Limited,
    dispatch::DispatchError,
    engine::{Refusal, Reservation, Status, Timestamp, Violation},
    store::StoreError,
    webhooks::WebhookRefusal,
};

use super::{
    details::{Problem, RETRY_AFTER_SECONDS},
    kind::Kind,
};

impl Problem {
    /// A refusal of the engine, answered at `now`.
    fn refused(refusal: Refusal, now: Timestamp) -> Self {
        let status = refusal.reservation_status();
        Self::of_refusal(refusal, now).with(|members| members.reservation_status = status)
    }

    fn of_refusal(refusal: Refusal, now: Timestamp) -> Self {
        match refusal {
            Refusal::ResourceNotFound { resource_id } => Self::no_resource(resource_id.as_str()),
            Refusal::ReservationNotFound => Self::no_reservation(),
            Refusal::OutOfStock { resource_id, requested, available, next_release_at } => {
                let detail =
                    format!("{} of {resource_id} requested, {available} available", units(requested));
                let problem = Self::new(Kind::OutOfStock, detail).with(|members| {
                    members.resource_id = Some(resource_id.to_string());
                    members.requested = Some(requested);
                    members.available_stock = Some(available);
                    members.next_release_at = next_release_at;
                });
                match next_release_at {
                    Some(at) => problem.retry_after(seconds_until(at, now)),
                    None => problem,
                }
            }
            Refusal::Backlogged { resource_id } => {
                let detail = format!(
                    "expired holds of {resource_id} are still being returned to its stock; retry later"
                );
                Self::new(Kind::ExpiryBacklog, detail)
                    .with(|members| members.resource_id = Some(resource_id.to_string()))
                    .retry_after(RETRY_AFTER_SECONDS)
            }
            Refusal::StockInUse { resource_id, requested_total, in_use } => {
                let detail = format!(
                    "the total of {resource_id} must be at least {in_use}, which is the number of units held or \
                     committed; got {requested_total}"
                );
                Self::new(Kind::StockInUse, detail).with(|members| {
                    members.resource_id = Some(resource_id.to_string());
                    members.requested = Some(requested_total);
                    members.in_use = Some(in_use);
                })
            }
            Refusal::KeyReused => Self::new(
                Kind::IdempotencyKeyReused,
                "this key was used before, for a different request; a new request needs a new key",
            )
            .with(|members| members.field = Some("Idempotency-Key".to_owned())),
            Refusal::ReservationEnded { reservation } => Self::reservation_ended(*reservation),
            Refusal::HoldExpired { expired_at } => {
                Self::new(Kind::HoldExpired, format!("the hold expired at {expired_at}"))
                    .with(|members| members.expired_at = Some(expired_at))
            }
            Refusal::AlreadyCommitted => {
                Self::new(Kind::AlreadyCommitted, "the reservation was committed before")
            }
            Refusal::AlreadyReleased => Self::new(Kind::AlreadyReleased, "the hold was released before"),
            Refusal::AlreadyCancelled => {
                Self::new(Kind::AlreadyCancelled, "the reservation was cancelled before")
            }
            Refusal::NotCommitted { status } => Self::new(
                Kind::NotCommitted,
                format!("only a committed reservation can be cancelled; this one is {status}"),
            ),
            Refusal::NotDue { expires_at } => {
                Self::new(Kind::NotDue, format!("the hold does not expire before {expires_at}"))
            }
        }
    }

    /// 409: the units of the reservation that this key made were given back.
    fn reservation_ended(reservation: Reservation) -> Self {
        let how = match reservation.status {
            Status::Expired => format!("its hold expired at {}", reservation.expires_at),
            Status::Cancelled => "it was cancelled".to_owned(),
            Status::Held | Status::Committed | Status::Released => "its hold was released".to_owned(),
        };
        let detail = format!(
            "the reservation of this key has ended: {how}; nothing is held, and a new attempt needs a new key"
        );
        Self::new(Kind::ReservationEnded, detail)
            .with(|members| members.reservation = Some(Box::new(reservation.into())))
    }
}

/// "1 unit", "2 units".
fn units(count: u64) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

/// Whole seconds from `now` until `at`, rounded up, so that a client that waits that long is not too early.
fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let millis = at.duration_since(now).as_millis();
    u64::try_from(millis).unwrap_or(0).div_ceil(1000).max(1)
}

impl From<Violation> for Problem {
    fn from(violation: Violation) -> Self {
        let detail = violation.to_string();
        Self::invalid(violation.field, detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        // `Retry-After` is in whole seconds, so this process's clock is exact enough.
        Self::refused(refusal, Timestamp::now())
    }
}

impl<R> From<Rejected<R>> for Problem
where
    Problem: From<R>,
{
    fn from(rejected: Rejected<R>) -> Self {
        match rejected {
            Rejected::Refused(refusal) => refusal.into(),
            Rejected::Failed(error) => error.into(),
        }
    }
}

impl From<ReserveRefusal> for Problem {
    fn from(refusal: ReserveRefusal) -> Self {
        match refusal {
            ReserveRefusal::Engine(refusal) => refusal.into(),
            ReserveRefusal::RateLimited(limited) => limited.into(),
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        let detail = format!("{limited}; nothing was done, and a retry with the same key is safe");
        // Rounded up, so that a client that waits that long is not too early.
        let seconds = limited.retry_after.as_secs_f64().ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 86,400")]
        let seconds = seconds as u64;
        Self::new(Kind::RateLimited, detail).retry_after(seconds)
    }
}

impl From<WebhookRefusal> for Problem {
    fn from(refusal: WebhookRefusal) -> Self {
        let problem = |kind| Self::new(kind, refusal.to_string());
        match refusal {
            WebhookRefusal::NoEndpoint => problem(Kind::WebhookNotFound),
            WebhookRefusal::NoDelivery => problem(Kind::DeliveryNotFound),
            WebhookRefusal::FromEnvironment => problem(Kind::WebhookOfEnvironment),
            WebhookRefusal::HeadersOfOtherHost => Self::invalid("headers", format!("headers {refusal}")),
            WebhookRefusal::TooManySecrets => problem(Kind::WebhookSecretLimit),
            WebhookRefusal::TooManyEndpoints { .. } => problem(Kind::WebhookLimit),
            WebhookRefusal::KeyReused => problem(Kind::IdempotencyKeyReused)
                .with(|members| members.field = Some("Idempotency-Key".to_owned())),
            WebhookRefusal::Full => problem(Kind::WebhookFull),
            WebhookRefusal::Busy => problem(Kind::WebhookBusy).retry_after(RETRY_AFTER_SECONDS),
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Full => unavailable("too many requests are waiting; nothing was done"),
            DispatchError::Stopping => unavailable("the server is shutting down; nothing was done"),
            DispatchError::Lock(_) => unavailable(
                "other requests hold the lock of this resource, or the lock service is unavailable; nothing was done",
            ),
            DispatchError::Panicked => Self::internal(),
            DispatchError::Store(error) => store_problem(&error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        store_problem(&error)
    }
}

fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable { .. } | StoreError::Lost { .. } => {
            unavailable("the database is unavailable; a retry with the same key is safe")
        }
        StoreError::Contended { .. } => {
            unavailable("too many requests write at the same time; a retry with the same key is safe")
        }
        StoreError::Corrupt { .. }
        | StoreError::Value { .. }
        | StoreError::Statement { .. }
        | StoreError::Migration { .. }
        | StoreError::Copy { .. }
        | StoreError::SchemaTooNew { .. } => Problem::internal(),
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(Kind::Unavailable, detail).retry_after(RETRY_AFTER_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bespeak::{
        coordination::Rate,
        engine::{IdempotencyKey, Item, Items, Limits, ReserveDraft, ResourceId, Token},
    };

    use super::*;

    /// Every refusal once, as a chain: a new variant does not compile until it has its place in the chain.
    fn next(refusal: &Refusal) -> Option<Refusal> {
        let resource_id = ResourceId::new("resourceId", "seat").unwrap();
        let at = Timestamp::now();
        Some(match refusal {
            Refusal::ResourceNotFound { .. } => {
                Refusal::OutOfStock { resource_id, requested: 2, available: 1, next_release_at: Some(at) }
            }
            Refusal::OutOfStock { .. } => Refusal::Backlogged { resource_id },
            Refusal::Backlogged { .. } => Refusal::KeyReused,
            Refusal::KeyReused => Refusal::ReservationEnded { reservation: Box::new(ended()) },
            Refusal::ReservationEnded { .. } => {
                Refusal::StockInUse { resource_id, requested_total: 1, in_use: 2 }
            }
            Refusal::StockInUse { .. } => Refusal::ReservationNotFound,
            Refusal::ReservationNotFound => Refusal::HoldExpired { expired_at: at },
            Refusal::HoldExpired { .. } => Refusal::AlreadyCommitted,
            Refusal::AlreadyCommitted => Refusal::AlreadyReleased,
            Refusal::AlreadyReleased => Refusal::AlreadyCancelled,
            Refusal::AlreadyCancelled => Refusal::NotCommitted { status: Status::Held },
            Refusal::NotCommitted { .. } => Refusal::NotDue { expires_at: at },
            Refusal::NotDue { .. } => return None,
        })
    }

    fn ended() -> Reservation {
        let (limits, now) = (Limits::default(), Timestamp::now());
        let item = Item {
            resource_id: ResourceId::new("resourceId", "seat").unwrap(),
            quantity: limits.quantity("quantity", 1).unwrap(),
        };
        let draft = ReserveDraft {
            items: Items::new(vec![item], &limits).unwrap(),
            ttl: limits.ttl("ttlSeconds", None).unwrap(),
            holder: None,
            metadata: None,
            key: IdempotencyKey::new("k").unwrap(),
        };
        let reserve =
            draft.with_token(Token::parse("token", "01890a5d-ac96-774b-bcce-b302099a8057").unwrap());
        Reservation {
            token: reserve.token,
            items: reserve.items,
            status: Status::Released,
            holder: None,
            metadata: None,
            key: reserve.key,
            fingerprint: reserve.fingerprint,
            version: 2,
            created_at: now,
            expires_at: now,
            updated_at: now,
        }
    }

    fn assert_in_table(slug: &str, problem: &Problem) {
        let (kind, written) = problem.written();
        assert_eq!((kind.slug(), &written["type"]), (slug, &slug.into()));
        assert_eq!(written["status"], kind.status().as_u16());
    }

    #[test]
    fn refusals_of_the_engine_are_answered_with_their_own_slug() {
        let first = Refusal::ResourceNotFound { resource_id: ResourceId::new("resourceId", "seat").unwrap() };
        for refusal in std::iter::successors(Some(first), next) {
            let (slug, status) = (refusal.slug(), refusal.reservation_status());
            let problem = refusal.into();
            assert_in_table(slug, &problem);
            let (_, written) = problem.written();
            assert_eq!(written["reservationStatus"].as_str(), status.map(Status::as_str), "{slug}");
            // Whatever names how a reservation ended, or that it has not, concerns its state.
            let concerns_state = ["already-", "hold-", "not-", "reservation-ended"];
            let concerns_state = concerns_state.iter().any(|start| slug.starts_with(start));
            assert_eq!(status.is_some(), concerns_state, "{slug}");
        }
    }

    #[test]
    fn refusals_of_webhooks_and_rate_limits_are_answered_with_their_own_slug() {
        for refusal in [
            WebhookRefusal::NoEndpoint,
            WebhookRefusal::NoDelivery,
            WebhookRefusal::FromEnvironment,
            WebhookRefusal::HeadersOfOtherHost,
            WebhookRefusal::TooManySecrets,
            WebhookRefusal::TooManyEndpoints { max: 3 },
            WebhookRefusal::KeyReused,
            WebhookRefusal::Full,
            WebhookRefusal::Busy,
        ] {
            assert_in_table(refusal.slug(), &refusal.into());
        }
        let rate = Rate { requests: 1, per: Duration::from_secs(1) };
        assert_in_table("rate-limited", &Limited { rate, retry_after: Duration::from_millis(1) }.into());
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let now = Timestamp::now();
        assert_eq!(seconds_until(now + Duration::from_millis(1_001), now), 2);
        assert_eq!(seconds_until(now, now), 1);
    }
}
