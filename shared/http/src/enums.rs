//! The enums of the API: fields with a closed set of values, each with a name in the OpenAPI document.
//!
//! The values are those of the library's own types, so that the document cannot name others. A field of a view has the
//! library's type, and one of these as its `value_type`.

use bespeak::{
    engine::{self, Status},
    webhooks::{self, EndpointOrigin},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// Declares the schema of an enum: its description, its name in the document, and its values.
macro_rules! enums {
    ($($(#[doc = $meaning:literal])+ $name:ident = $values:expr;)+) => {$(
        $(#[doc = $meaning])+
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let meaning = concat!($($meaning),+).trim_ascii();
                let values = ObjectBuilder::new().schema_type(Type::String).enum_values(Some($values));
                values.description(Some(meaning)).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )+};
}

enums! {
    /// The status of a reservation: `HELD` until it is committed, released or expires; `COMMITTED` until it is
    /// cancelled.
    ReservationStatus = Status::ALL.map(Status::as_str);
    /// The effect of a commit: none, or a SmartKey is issued for the reservation.
    Fulfilment = engine::Fulfilment::ALL.map(engine::Fulfilment::as_str);
    /// The status of a webhook delivery. `FAILED` means that it was given up.
    DeliveryStatus = webhooks::DeliveryStatus::ALL.map(webhooks::DeliveryStatus::as_str);
    /// The state of the circuit breaker of a webhook endpoint: `CLOSED` while deliveries are attempted; `OPEN` for a
    /// while after five attempts in a row failed; then `HALF_OPEN`, until one delivery has probed the receiver.
    WebhookCircuit = ["CLOSED", "OPEN", "HALF_OPEN"];
    /// The origin of a webhook endpoint: this API, or the configuration of the server.
    WebhookOrigin = EndpointOrigin::ALL.map(EndpointOrigin::as_str);
}
