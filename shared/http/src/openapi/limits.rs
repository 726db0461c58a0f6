//! The limits of one installation, which its own document has beside the contract.

use bespeak::{engine::Limits, http_options::HttpOptions};
use serde_json::{Value, json};

use super::set;

/// The contract with the limits and the base path of an installation.
pub(crate) fn deployment(mut contract: Value, limits: &Limits, http: &HttpOptions) -> Value {
    let mut bound = |schema: &str, property: &str, keywords: Value| {
        let pointer = format!("/components/schemas/{schema}/properties/{property}");
        let target = contract.pointer_mut(&pointer);
        debug_assert!(target.is_some(), "the document has no {pointer}");
        set(target, keywords);
    };
    for request in ["ReserveOneRequest", "ReserveManyRequest"] {
        let ttl = json!({"maximum": limits.ttl_max_seconds, "default": limits.ttl_default_seconds});
        bound(request, "ttlSeconds", ttl);
        bound(request, "holder", json!({"maxLength": limits.holder_length_max}));
        bound(request, "metadata", json!({"x-max-bytes": limits.metadata_bytes_max}));
    }
    let ttl = json!({"maximum": limits.ttl_max_seconds, "x-life-max-seconds": limits.life_max_seconds});
    bound("ExtendRequest", "ttlSeconds", ttl);
    bound("ReserveOneRequest", "quantity", json!({"maximum": limits.quantity_max}));
    bound("ReserveManyRequest", "items", json!({"maxItems": limits.items_max}));
    bound("ItemRequest", "quantity", json!({"maximum": limits.quantity_max}));
    bound("DefineRequest", "totalStock", json!({"maximum": limits.total_max}));
    let base = if http.base_path.is_empty() { "/" } else { &http.base_path };
    contract["servers"] = json!([{"url": base, "description": "This server"}]);
    contract["info"]["x-limits"] = json!({
        "reservation": limits,
        "bodyBytesMax": http.body_bytes_max,
        "importBytesMax": http.import_bytes_max,
        "idempotencyKeyLengthMax": 255,
        "resourceIdLengthMax": 128,
    });
    contract
}
