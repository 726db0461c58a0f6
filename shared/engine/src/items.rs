//! The items of a reservation.

use std::{ops::Deref, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Limits, Quantity, ResourceId, violation::Violation};

/// A resource and a number of units of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The id of the resource.
    pub resource_id: ResourceId,
    /// The number of units.
    pub quantity: Quantity,
}

/// The items of a reservation: at least one, in id order, each resource once. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "The items of a reservation: at least one, in id order, each resource once.")]
pub struct Items(#[schemars(length(min = 1))] Arc<[Item]>);

impl Items {
    /// Merges items of the same resource, and sorts the items by id.
    ///
    /// # Errors
    /// There are no items, or more than the limit (counted before merging), or a merged quantity exceeds the limit.
    pub fn new(items: Vec<Item>, limits: &Limits) -> Result<Self, Violation> {
        if items.is_empty() || items.len() > limits.items_max {
            return Err(Violation::new(
                "items",
                format!("must be 1 to {} items, were {}", limits.items_max, items.len()),
            ));
        }
        let merged = Self::merge(items)?;
        for item in &merged[..] {
            if item.quantity.units() > limits.quantity_max {
                return Err(Violation::new(
                    "quantity",
                    format!("of {} must be at most {} in all", item.resource_id, limits.quantity_max),
                ));
            }
        }
        Ok(merged)
    }

    /// Rebuilds items that were stored. Today's limits do not apply to them.
    ///
    /// # Errors
    /// There are no items, or a merged quantity exceeds [`TOTAL_MAX`](super::TOTAL_MAX).
    pub fn from_stored(items: Vec<Item>) -> Result<Self, Violation> {
        if items.is_empty() {
            return Err(Violation::new("items", "must not be empty"));
        }
        Self::merge(items)
    }

    fn merge(mut items: Vec<Item>) -> Result<Self, Violation> {
        items.sort_by(|a, b| a.resource_id.cmp(&b.resource_id));
        let mut merged: Vec<Item> = Vec::with_capacity(items.len());
        for item in items {
            match merged.last_mut().filter(|last| last.resource_id == item.resource_id) {
                Some(last) => {
                    let units = last.quantity.units() + item.quantity.units();
                    last.quantity = Quantity::new("quantity", units)?;
                }
                None => merged.push(item),
            }
        }
        Ok(Self(merged.into()))
    }
}

impl Deref for Items {
    type Target = [Item];

    fn deref(&self) -> &[Item] {
        &self.0
    }
}
