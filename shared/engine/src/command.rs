//! What can be asked of the engine. A command is complete when it exists: parsed, merged, with its token drawn.

use std::{ops::Deref, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Fingerprint, Fulfilment, Holder, IdempotencyKey, Item, Limits, Metadata, ResourceId, Token, Ttl,
    Violation,
};
use crate::trace::TraceContext;

/// The items of a reservation: at least one, in id order, each resource once. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "The items of a reservation: at least one, in id order, each resource once.")]
pub struct Items(#[schemars(length(min = 1))] Arc<[Item]>);

impl Items {
    /// Merges items of one resource and sorts them by id.
    ///
    /// # Errors
    /// No items, or more than the limit (counted before merging), or a merged quantity past the limit.
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

    /// Items that were stored: whatever the limits are today.
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
                    last.quantity = super::Quantity::new("quantity", units)?;
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

/// Take units for a while, all or nothing.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The token that the reservation will bear.
    pub token: Token,
    /// What to take.
    pub items: Items,
    /// For how long.
    pub ttl: Ttl,
    /// On whose behalf.
    pub holder: Option<Holder>,
    /// What to attach.
    pub metadata: Option<Arc<Metadata>>,
    /// Under which key.
    pub key: IdempotencyKey,
    /// The digest of all of the above but token and key.
    pub fingerprint: Fingerprint,
}

/// What a client asked for, before a token was drawn and the fingerprint taken.
#[derive(Clone, Debug)]
pub struct ReserveDraft {
    /// What to take.
    pub items: Items,
    /// For how long.
    pub ttl: Ttl,
    /// On whose behalf.
    pub holder: Option<Holder>,
    /// What to attach.
    pub metadata: Option<Metadata>,
    /// Under which key.
    pub key: IdempotencyKey,
}

impl ReserveDraft {
    /// Completes the command.
    pub fn with_token(self, token: Token) -> Reserve {
        let Self { items, ttl, holder, metadata, key } = self;
        let fingerprint = Fingerprint::of(&items, ttl, holder.as_ref(), metadata.as_ref());
        Reserve { token, items, ttl, holder, metadata: metadata.map(Arc::new), key, fingerprint }
    }
}

/// Create a resource or change it.
#[derive(Clone, Debug)]
pub struct Define {
    /// The resource.
    pub resource_id: ResourceId,
    /// How many units there are from now on.
    pub total: u64,
    /// What a commit sets off; `None` leaves it as it is (and is [`Fulfilment::None`] for a new resource).
    pub fulfilment: Option<Fulfilment>,
}

/// Lengthen the TTL of a hold.
#[derive(Clone, Debug)]
pub struct Extend {
    /// The hold.
    pub token: Token,
    /// Counted from now.
    pub ttl: Ttl,
    /// How long the hold may live in all, in seconds from its creation.
    pub life_max_seconds: u64,
}

/// One thing to do, decided by [`apply`](super::apply()).
#[derive(Clone, Debug)]
pub enum Command {
    /// Create a resource or change it.
    Define(Define),
    /// Take units for a while.
    Reserve(Reserve),
    /// Make a hold final.
    Commit(Token),
    /// Give a hold back.
    Release(Token),
    /// Lengthen a hold.
    Extend(Extend),
    /// Give a committed reservation back.
    Cancel(Token),
    /// Give a hold back whose time is up.
    Expire(Token),
}

/// A command, and the trace of the request that gave it: commands of many requests share a transaction, so it is the
/// command that bears it.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What to do.
    pub command: Command,
    /// Which request wants it; none for what the process does by itself.
    pub trace: Option<TraceContext>,
}

impl From<Command> for Traced {
    fn from(command: Command) -> Self {
        Self { command, trace: None }
    }
}

impl Command {
    /// The name of the kind, for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Define(_) => "define",
            Self::Reserve(_) => "reserve",
            Self::Commit(_) => "commit",
            Self::Release(_) => "release",
            Self::Extend(_) => "extend",
            Self::Cancel(_) => "cancel",
            Self::Expire(_) => "expire",
        }
    }

    /// The reservation that it acts on; `None` for those that name resources.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Commit(token) | Self::Release(token) | Self::Cancel(token) | Self::Expire(token) => {
                Some(*token)
            }
            Self::Extend(extend) => Some(extend.token),
            Self::Define(_) | Self::Reserve(_) => None,
        }
    }

    /// Whether it moves units of the resources of its reservation.
    pub fn gives_back(&self) -> bool {
        matches!(self, Self::Release(_) | Self::Cancel(_) | Self::Expire(_))
    }
}
