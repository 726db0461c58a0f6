//! Compares an event with the books before it may take effect.
//!
//! The event log is no authority: any program that may write to it can write a record that
//! looks like an event of this product.
//! What happened is in the books. The status and the version of a reservation determine the type of the event of each
//! of its versions, so an event that the books contradict is recognised without a look at the outbox. Never: I/O.

use std::collections::HashMap;

use crate::{
    engine::{EventType, ResourceId, Status, Timestamp, Token},
    envelope::{Incoming, Subject},
};

/// The part of the books that a batch of events is compared with.
#[derive(Debug, Default)]
pub struct KnownBooks {
    /// The status and the version of each reservation that exists.
    pub reservations: HashMap<Token, (Status, u64)>,
    /// The version of each resource that exists.
    pub resources: HashMap<ResourceId, u64>,
    /// Reservations that were made before this instant may have been purged.
    pub kept_since: Timestamp,
}

/// What the books say about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BooksVerdict {
    /// It happened.
    Known,
    /// Its reservation was purged, so the books cannot say whether it happened, and nothing depends on it any more.
    Purged,
    /// It did not happen, for this reason.
    Contradicted(String),
}

impl KnownBooks {
    /// Whether some of these events are of reservations that do not exist, so that [`Self::kept_since`] is needed.
    pub fn misses_any<'a>(&self, mut events: impl Iterator<Item = &'a Incoming>) -> bool {
        events.any(|event| match &event.subject {
            Subject::Reservation { token, .. } => !self.reservations.contains_key(token),
            Subject::Resource { .. } => false,
        })
    }

    /// Compares an event with the books.
    pub fn judge(&self, event: &Incoming) -> BooksVerdict {
        let version = event.version;
        match &event.subject {
            Subject::Reservation { token, .. } => match self.reservations.get(token) {
                None if drawn_before(*token, self.kept_since) => BooksVerdict::Purged,
                None => BooksVerdict::Contradicted(format!("reservation {token} is not in the books")),
                Some((_, latest)) if version > *latest => BooksVerdict::Contradicted(format!(
                    "reservation {token} is at version {latest} in the books, and the event is of version {version}"
                )),
                Some((status, latest)) if !happened(event.kind, version, *status, *latest) => {
                    let kind = event.kind.as_str();
                    let reason =
                        format!("version {version} of reservation {token} is not {kind} in the books");
                    BooksVerdict::Contradicted(reason)
                }
                Some(_) => BooksVerdict::Known,
            },
            Subject::Resource { id, .. } => match self.resources.get(id) {
                None => BooksVerdict::Contradicted(format!("resource {id} is not in the books")),
                Some(latest) if version > *latest => BooksVerdict::Contradicted(format!(
                    "resource {id} is at version {latest} in the books, and the event is of version {version}"
                )),
                Some(_) => BooksVerdict::Known,
            },
        }
    }
}

/// Whether the event of a version of a reservation is of this type, given its latest status and version: the first is
/// `held`, the last but for a hold is that of its status, a `cancelled` follows a `committed`, and all others are
/// `extended`.
fn happened(kind: EventType, version: u64, status: Status, latest: u64) -> bool {
    let ended = match status {
        Status::Held => None,
        Status::Committed => Some(EventType::Committed),
        Status::Released => Some(EventType::Released),
        Status::Expired => Some(EventType::Expired),
        Status::Cancelled => Some(EventType::Cancelled),
    };
    let expected = match ended {
        Some(end) if version == latest => end,
        Some(EventType::Cancelled) if version + 1 == latest => EventType::Committed,
        _ if version == 1 => EventType::Held,
        _ => EventType::Extended,
    };
    version > 0 && kind == expected
}

/// Whether a token was drawn before an instant, to the millisecond.
fn drawn_before(token: Token, instant: Timestamp) -> bool {
    token.uuid().get_timestamp().is_some_and(|drawn| {
        let (seconds, nanos) = drawn.to_unix();
        i64::try_from(seconds).is_ok_and(|seconds| {
            (seconds, i64::from(nanos)) < (instant.as_second(), i64::from(instant.subsec_nanosecond()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_version_determine_the_type_of_each_version() {
        use EventType::{Cancelled, Committed, Expired, Extended, Held, Released};
        let history = |status, latest: u64| -> Vec<EventType> {
            let of = |version| {
                let kinds =
                    EventType::ALL.into_iter().filter(|kind| happened(*kind, version, status, latest));
                let kinds: Vec<_> = kinds.collect();
                assert_eq!(kinds.len(), 1, "{status:?} {version} of {latest}: {kinds:?}");
                kinds[0]
            };
            (1..=latest).map(of).collect()
        };
        assert_eq!(history(Status::Held, 1), [Held]);
        assert_eq!(history(Status::Held, 3), [Held, Extended, Extended]);
        assert_eq!(history(Status::Committed, 2), [Held, Committed]);
        assert_eq!(history(Status::Committed, 3), [Held, Extended, Committed]);
        assert_eq!(history(Status::Released, 2), [Held, Released]);
        assert_eq!(history(Status::Expired, 3), [Held, Extended, Expired]);
        assert_eq!(history(Status::Cancelled, 3), [Held, Committed, Cancelled]);
        assert_eq!(history(Status::Cancelled, 4), [Held, Extended, Committed, Cancelled]);
        assert!(!EventType::ALL.into_iter().any(|kind| happened(kind, 0, Status::Held, 1)));
    }
}
