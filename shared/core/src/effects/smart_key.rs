//! SmartKeys: issued when a reservation of something that a key opens is committed, revoked when it is cancelled.

use std::fmt;

use uuid::Uuid;

use super::{Effect, EffectSet, Effected, Incoming, Subject};
use crate::engine::{EventType, Timestamp, Token};

/// The key of a reservation, and the version of the last event that was applied to it. It is kept also where none was
/// issued, so that an older event can be told from a newer one.
#[derive(Clone, PartialEq, Eq)]
pub struct SmartKey {
    /// The reservation.
    pub token: Token,
    /// The version of the last event that was applied.
    pub version: u64,
    /// 128 random bits, and when they were issued; none where the reservation was cancelled before.
    pub issued: Option<([u8; 16], Timestamp)>,
    /// Since when it opens nothing any more.
    pub revoked_at: Option<Timestamp>,
}

impl SmartKey {
    /// The key as text: 32 hexadecimal digits.
    pub fn code(&self) -> Option<String> {
        self.issued.map(|(code, _)| format!("{:032x}", u128::from_be_bytes(code)))
    }
}

/// Whoever reads a log must not be able to open a car.
impl fmt::Debug for SmartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issued_at = self.issued.map(|(_, at)| at);
        f.debug_struct("SmartKey")
            .field("token", &self.token)
            .field("version", &self.version)
            .field("issued_at", &issued_at)
            .field("revoked_at", &self.revoked_at)
            .finish()
    }
}

/// Whether an event may change a key.
pub(super) fn concerns(event: &Incoming) -> bool {
    matches!(event.kind, EventType::Committed | EventType::Cancelled)
}

/// The effect.
pub(super) struct SmartKeys;

impl Effect for SmartKeys {
    fn apply(&self, event: &Incoming, set: &mut EffectSet) -> Effected {
        let Subject::Reservation { token, resources } = &event.subject else { return Effected::Done };
        let known = set.smart_keys.get(token);
        // What a key opens may have changed since it was issued: it is revoked all the same.
        let opened = known.is_some() || resources.iter().any(|id| set.opened_by_key.contains(id));
        if !concerns(event) || !opened {
            return Effected::Done;
        }
        if known.is_some_and(|key| key.version >= event.version) {
            return Effected::Stale;
        }
        let issued = known.and_then(|key| key.issued);
        let changed = if event.kind == EventType::Committed {
            SmartKey {
                token: *token,
                version: event.version,
                issued: issued.or_else(|| Some((draw(), set.now))),
                revoked_at: None,
            }
        } else {
            SmartKey { token: *token, version: event.version, issued, revoked_at: Some(set.now) }
        };
        set.smart_keys.insert(*token, changed);
        set.changed_keys.insert(*token);
        Effected::Done
    }
}

/// 128 bits from the system's cryptographic source: two random UUIDs, of which each has 122, hashed together.
fn draw() -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(Uuid::new_v4().as_bytes());
    hasher.update(Uuid::new_v4().as_bytes());
    let mut code = [0; 16];
    hasher.finalize_xof().fill(&mut code);
    code
}
