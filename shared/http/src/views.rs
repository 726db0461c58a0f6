//! What clients read: the JSON of resources and reservations.

use bespeak::{
    effects::SmartKey,
    engine::{Item, Metadata, Reservation, Resource, Timestamp},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Something countable.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Resource)]
pub(crate) struct ResourceView {
    /// Its id.
    #[schema(example = "room-101")]
    resource_id: String,
    /// Units in all.
    total_stock: u64,
    /// Units neither held nor committed; units of holds whose time is up count as available.
    available_stock: u64,
    /// One more with each change.
    version: u64,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// What a commit sets off: `NONE` or `SMART_KEY`.
    #[schema(example = "NONE")]
    fulfilment: &'static str,
}

impl From<Resource> for ResourceView {
    fn from(resource: Resource) -> Self {
        Self {
            resource_id: resource.id.to_string(),
            total_stock: resource.total,
            available_stock: resource.available,
            version: resource.version,
            updated_at: resource.updated_at,
            fulfilment: resource.fulfilment.as_str(),
        }
    }
}

/// A page of resources, in id order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourcePage {
    /// The resources.
    pub(crate) resources: Vec<ResourceView>,
    /// Where the next page starts: its `after`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A resource and how many units of it.
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

/// A reservation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reservation)]
pub(crate) struct ReservationView {
    /// Its id, and the capability to act on it: keep it secret.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    token: String,
    /// The resource, where there is one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// The quantity, where there is one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u64>,
    /// What it takes: items of one resource merged, in id order.
    items: Vec<ItemView>,
    /// `HELD`, `COMMITTED`, `RELEASED`, `EXPIRED` or `CANCELLED`.
    #[schema(example = "HELD")]
    status: &'static str,
    /// When the hold ends, or ended.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// One more with each change.
    version: u64,
    /// On whose behalf it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    /// What was attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<std::sync::Arc<Metadata>>,
    /// The key that opens what was reserved: there shortly after the commit of a resource whose `fulfilment` is
    /// `SMART_KEY`, and only where a reservation is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    smart_key: Option<SmartKeyView>,
}

/// A SmartKey.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SmartKey)]
pub(crate) struct SmartKeyView {
    /// 128 random bits, as 32 hexadecimal digits.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015")]
    code: String,
    /// `ISSUED`, or `REVOKED` after a cancel: it opens nothing any more.
    #[schema(example = "ISSUED")]
    status: &'static str,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl SmartKeyView {
    /// A key as its holder sees it; none where none was issued.
    fn of(key: &SmartKey) -> Option<Self> {
        let (_, issued_at) = key.issued?;
        Some(Self {
            code: key.code()?,
            status: if key.revoked_at.is_some() { "REVOKED" } else { "ISSUED" },
            issued_at,
            revoked_at: key.revoked_at,
        })
    }
}

impl ReservationView {
    /// The same, with its key.
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
            status: reservation.status.as_str(),
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
