//! Commands: everything that the engine can do. A command is complete when it exists: parsed, merged, with its token
//! drawn.

use std::sync::Arc;

use super::{Fingerprint, Fulfilment, Holder, IdempotencyKey, Items, Metadata, ResourceId, Token, Ttl};
use crate::trace::TraceContext;

/// Takes units for a while: all of the items or none.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The token of the new reservation.
    pub token: Token,
    /// The items to take.
    pub items: Items,
    /// How long the hold lasts.
    pub ttl: Ttl,
    /// The customer on whose behalf the units are held.
    pub holder: Option<Holder>,
    /// Data of the client, attached to the reservation and its events.
    pub metadata: Option<Arc<Metadata>>,
    /// The idempotency key of the request.
    pub key: IdempotencyKey,
    /// The digest of all fields above except the token and the key.
    pub fingerprint: Fingerprint,
}

impl Reserve {
    /// Whether a stored fingerprint is that of this request, as this version or as version 0.2 takes it.
    pub(crate) fn is_request_of(&self, stored: Fingerprint) -> bool {
        let (holder, metadata) = (self.holder.as_ref(), self.metadata.as_deref());
        stored == self.fingerprint
            || Fingerprint::of_version_0_2(&self.items, self.ttl, holder, metadata) == Some(stored)
    }
}

/// The request of a client, before a token was drawn and the fingerprint was taken.
#[derive(Clone, Debug)]
pub struct ReserveDraft {
    /// The items to take.
    pub items: Items,
    /// How long the hold lasts.
    pub ttl: Ttl,
    /// The customer on whose behalf the units are held.
    pub holder: Option<Holder>,
    /// Data of the client, attached to the reservation and its events.
    pub metadata: Option<Metadata>,
    /// The idempotency key of the request.
    pub key: IdempotencyKey,
}

impl ReserveDraft {
    /// Completes the command with a token, and takes its fingerprint.
    pub fn with_token(self, token: Token) -> Reserve {
        let Self { items, ttl, holder, metadata, key } = self;
        let fingerprint = Fingerprint::of(&items, ttl, holder.as_ref(), metadata.as_ref());
        Reserve { token, items, ttl, holder, metadata: metadata.map(Arc::new), key, fingerprint }
    }
}

/// Creates a resource or changes it.
#[derive(Clone, Debug)]
pub struct Define {
    /// The id of the resource.
    pub resource_id: ResourceId,
    /// The number of units from now on.
    pub total: u64,
    /// The action that a commit triggers. `None` leaves it as it is, and means [`Fulfilment::None`] for a new
    /// resource.
    pub fulfilment: Option<Fulfilment>,
}

/// Lengthens the TTL of a hold.
#[derive(Clone, Debug)]
pub struct Extend {
    /// The token of the hold.
    pub token: Token,
    /// The new TTL, counted from now.
    pub ttl: Ttl,
    /// The longest life of a hold, in seconds from its creation.
    pub life_max_seconds: u64,
}

/// One command, decided by [`apply`](super::apply()).
#[derive(Clone, Debug)]
pub enum Command {
    /// Creates a resource or changes it.
    Define(Define),
    /// Takes units for a while.
    Reserve(Reserve),
    /// Makes a hold final.
    Commit(Token),
    /// Gives a hold back.
    Release(Token),
    /// Lengthens a hold.
    Extend(Extend),
    /// Gives a committed reservation back.
    Cancel(Token),
    /// Gives an overdue hold back.
    Expire(Token),
}

/// A command with the trace of the request that issued it. Commands of many requests share a transaction, so each
/// command carries its own trace.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The command.
    pub command: Command,
    /// The trace of the request; `None` for commands that the process issues itself, such as expiries.
    pub trace: Option<TraceContext>,
}

impl From<Command> for Traced {
    fn from(command: Command) -> Self {
        Self { command, trace: None }
    }
}

impl Command {
    /// The name of the kind of command, for metrics and logs.
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

    /// The token of the reservation that the command acts on; `None` for commands that name resources.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Commit(token) | Self::Release(token) | Self::Cancel(token) | Self::Expire(token) => {
                Some(*token)
            }
            Self::Extend(extend) => Some(extend.token),
            Self::Define(_) | Self::Reserve(_) => None,
        }
    }

    /// Whether the command returns units to the resources of its reservation.
    pub fn gives_back(&self) -> bool {
        matches!(self, Self::Release(_) | Self::Cancel(_) | Self::Expire(_))
    }
}
