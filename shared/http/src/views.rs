//! Resources and reservations as clients read them, in JSON.

use bespeak::{
    effects::SmartKey,
    engine::{self, Item, Metadata, Reservation, Resource, Status, Timestamp},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::enums::{Fulfilment, ReservationStatus};

/// Something countable that can be reserved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Resource)]
pub(crate) struct ResourceView {
    /// The id of the resource.
    #[schema(example = "room-101")]
    resource_id: String,
    /// The total number of units, including those that are held or committed.
    total_stock: u64,
    /// The number of units that are neither held nor committed. Units of expired holds count as available.
    available_stock: u64,
    /// The version, which grows by one with each change.
    version: u64,
    /// When the resource last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The effect of a commit.
    #[schema(value_type = Fulfilment)]
    fulfilment: engine::Fulfilment,
}

impl From<Resource> for ResourceView {
    fn from(resource: Resource) -> Self {
        Self {
            resource_id: resource.id.to_string(),
            total_stock: resource.total,
            available_stock: resource.available,
            version: resource.version,
            updated_at: resource.updated_at,
            fulfilment: resource.fulfilment,
        }
    }
}

/// A page of resources, in the order of their ids.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourcePage {
    /// The resources of this page.
    pub(crate) resources: Vec<ResourceView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A resource and a number of its units.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Item)]
pub(crate) struct ItemView {
    #[schema(example = "room-101")]
    resource_id: String,
    #[schema(example = 1)]
    quantity: u64,
}

impl From<&Item> for ItemView {
    fn from(item: &Item) -> Self {
        Self { resource_id: item.resource_id.to_string(), quantity: item.quantity.units() }
    }
}

/// A reservation: units that are held, committed, or were returned to stock.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reservation)]
pub(crate) struct ReservationView {
    /// The id of the reservation. Everybody who has it can act on the reservation, so keep it secret.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
    /// The resource, if there is only one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// The quantity, if there is only one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u64>,
    /// The reserved units: one item for each resource, in the order of their ids.
    items: Vec<ItemView>,
    /// The status of the reservation.
    #[schema(value_type = ReservationStatus)]
    status: Status,
    /// When the hold expires, or expired.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When the reservation was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the reservation last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The version, which grows by one with each change.
    version: u64,
    /// The customer on whose behalf the reservation was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    /// The JSON object that was attached to the reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<std::sync::Arc<Metadata>>,
    /// The key that opens the reserved resource. It appears shortly after the commit of a resource whose `fulfilment`
    /// is `SMART_KEY`, and only in the answer of `GET /api/v1/reservations/{token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    smart_key: Option<SmartKeyView>,
}

/// A SmartKey: a code that opens a reserved resource.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SmartKey)]
pub(crate) struct SmartKeyView {
    /// 128 random bits, as 32 hexadecimal digits.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015")]
    code: String,
    /// The status of the key.
    status: SmartKeyStatus,
    /// When the key was issued.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// When the key was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

/// The status of a SmartKey. After a cancel it is `REVOKED`: the code is then no longer valid.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum SmartKeyStatus {
    Issued,
    Revoked,
}

impl SmartKeyView {
    /// The key as its holder sees it, or `None` if it was not issued yet.
    fn of(key: &SmartKey) -> Option<Self> {
        let (_, issued_at) = key.issued?;
        Some(Self {
            code: key.code()?,
            status: if key.revoked_at.is_some() { SmartKeyStatus::Revoked } else { SmartKeyStatus::Issued },
            issued_at,
            revoked_at: key.revoked_at,
        })
    }
}

impl ReservationView {
    /// Cuts `expiresAt` to whole seconds, so it is never later than the end of the hold.
    pub(crate) fn in_whole_seconds(mut self) -> Self {
        self.expires_at = Timestamp::from_second(self.expires_at.as_second()).unwrap_or(self.expires_at);
        self
    }

    /// Adds the key of the reservation.
    pub(crate) fn with_key(mut self, key: Option<&SmartKey>) -> Self {
        self.smart_key = key.and_then(SmartKeyView::of);
        self
    }
}

impl From<Reservation> for ReservationView {
    fn from(reservation: Reservation) -> Self {
        let items: Vec<ItemView> = reservation.items.iter().map(ItemView::from).collect();
        let only = if let [only] = &items[..] { Some(only) } else { None };
        Self {
            token: reservation.token.to_string(),
            resource_id: only.map(|item| item.resource_id.clone()),
            quantity: only.map(|item| item.quantity),
            items,
            status: reservation.status,
            expires_at: reservation.expires_at,
            created_at: reservation.created_at,
            updated_at: reservation.updated_at,
            version: reservation.version,
            holder: reservation.holder.map(|holder| holder.to_string()),
            metadata: reservation.metadata,
            smart_key: None,
        }
    }
}
