//! The sold-out memory: remembers for a short time which resources are sold out, so that refusing a crowd takes one
//! query per batch and locks nothing.
//!
//! A refusal from memory is based on a state that is at most [`REMEMBERED_FOR`] old, never outlives the end of the
//! next hold of its resource, and is forgotten when this process gives units of the resource back. Whether an
//! idempotency key already has a reservation is never remembered: that is looked up each time, so a retry finds its
//! reservation.
//!
//! Other processes share their findings as hints. A hint is judged by version and by the database's clock alone, so
//! it may arrive late, twice or out of order without extending the bound above. Next:
//! `coordination/sold_out_channel.rs`, which exchanges the hints.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    engine::{Outcome, Refusal, Reserve, ResourceId, Timestamp},
    store::Executed,
    telemetry::{self, SoldOutMessage},
};

/// How long a shortage is remembered. This bounds how far a refusal may lag behind a give-back by another process
/// (I6).
const REMEMBERED_FOR: Duration = Duration::from_millis(50);
const REMEMBERED_FOR_MICROS: i64 = 50_000;
/// How long a shortage is remembered here while findings are announced to other processes. This process queries the
/// database again before the others forget, so one process does it for all.
const RENEWED_AFTER: Duration = Duration::from_millis(35);
/// After this time what is remembered about a resource no longer counts, also against later findings: its version may
/// be forged, or that of a database that was restored since.
const COUNTS_FOR: Duration = Duration::from_millis(100);
/// The shortest time between two announcements of the same shortage.
const ANNOUNCED_EVERY: Duration = Duration::from_millis(10);
/// Above this number of remembered resources, outdated entries are dropped.
const RESOURCES_MAX: usize = 4_096;

/// A finding about a resource, to be shared with other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StockHint {
    pub(crate) resource: ResourceId,
    /// The resource's version at that moment: of two hints, the one with the higher version is the newer.
    pub(crate) version: u64,
    pub(crate) found: Finding,
}

/// A finding about a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Too few units were available.
    Short {
        available: u64,
        /// The database's clock while the resource was locked.
        as_of: Timestamp,
        /// When the next hold of the resource ends.
        next_release_at: Option<Timestamp>,
    },
    /// Units were given back.
    GivenBack,
}

/// The memory, shared by all lanes.
#[derive(Debug, Default)]
pub(crate) struct SoldOutMemory {
    memory: Mutex<Memory>,
    /// The queue of announcements to other processes; unset if there is no channel.
    announcements: OnceLock<mpsc::Sender<StockHint>>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<ResourceId, KnownState>,
    /// A time of the database's clock, and the instant at which it was known here. The database's clock now shows at
    /// least that time plus the time elapsed since.
    clock: Option<(Instant, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
enum KnownState {
    Short(Shortage),
    /// Units were given back: a finding of a lower version, or from a read before `here`, no longer counts.
    GivenBack {
        here: Option<Instant>,
        version: u64,
        arrived_at: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
struct Shortage {
    version: u64,
    available: u64,
    as_of: Timestamp,
    next_release_at: Option<Timestamp>,
    source: LearnedFrom,
    announced_at: Option<Instant>,
}

/// Which process made the finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LearnedFrom {
    Here { read_at: Instant },
    Elsewhere { arrived_at: Instant },
}

/// A refusal from memory.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) refusal: Refusal,
    /// Whether another process made the finding.
    pub(super) from_elsewhere: bool,
}

impl SoldOutMemory {
    /// Announces findings of this process to `queue` from now on. A hint that does not fit into the queue is dropped:
    /// other processes then query the database themselves.
    pub(crate) fn announce_to(&self, queue: mpsc::Sender<StockHint>) {
        // It is set once, when the process starts.
        let _ = self.announcements.set(queue);
    }

    /// Learns from the outcomes of a committed batch.
    pub(super) fn observe(&self, executed: &Executed) {
        let mut memory = self.memory();
        memory.clock = Some((Instant::now(), executed.now));
        for outcome in &executed.outcomes {
            match outcome {
                Err(Refusal::OutOfStock { resource_id, available, next_release_at, .. }) => {
                    let found = Finding::Short {
                        available: *available,
                        as_of: executed.now,
                        next_release_at: *next_release_at,
                    };
                    self.observe_shortage(&mut memory, resource_id, executed, found);
                }
                outcome => {
                    for id in given_back(outcome) {
                        self.observe_give_back(&mut memory, id, executed.version_of(id));
                    }
                }
            }
        }
        memory.bound();
    }

    fn observe_shortage(&self, memory: &mut Memory, id: &ResourceId, executed: &Executed, found: Finding) {
        let Finding::Short { available, as_of, next_release_at } = found else { return };
        let (version, read_at) = (executed.version_of(id), executed.read_at);
        let mut announced_at = None;
        match memory.known(id) {
            Some(KnownState::GivenBack { here, version: given, .. })
                if *given > version || here.is_some_and(|at| at >= read_at) =>
            {
                return;
            }
            Some(KnownState::Short(earlier)) => {
                if earlier.is_newer_than(version, as_of) {
                    return;
                }
                if (earlier.version, earlier.available) == (version, available) {
                    announced_at = earlier.announced_at.filter(|at| at.elapsed() < ANNOUNCED_EVERY);
                }
            }
            Some(KnownState::GivenBack { .. }) | None => {}
        }
        if announced_at.is_none() && self.announce(id, version, found) {
            announced_at = Some(Instant::now());
        }
        let source = LearnedFrom::Here { read_at };
        let short = Shortage { version, available, as_of, next_release_at, source, announced_at };
        memory.known.insert(id.clone(), KnownState::Short(short));
    }

    fn observe_give_back(&self, memory: &mut Memory, id: &ResourceId, version: u64) {
        let arrived_at = Instant::now();
        let given = KnownState::GivenBack { here: Some(arrived_at), version, arrived_at };
        // Only if this process remembered a shortage recently may other processes remember one too.
        if let Some(KnownState::Short(short)) = memory.known.insert(id.clone(), given)
            && short.since().elapsed() < COUNTS_FOR
        {
            self.announce(id, version, Finding::GivenBack);
        }
    }

    /// Learns the finding of another process. A hint that is older than what is known is ignored.
    pub(crate) fn learn(&self, StockHint { resource, version, found }: StockHint) {
        let mut memory = self.memory();
        let earlier = memory.known(&resource);
        let news = match found {
            Finding::GivenBack => match earlier {
                Some(KnownState::Short(short)) if short.version >= version => None,
                Some(KnownState::GivenBack { version: later, .. }) if *later >= version => None,
                _ => Some(KnownState::GivenBack { here: None, version, arrived_at: Instant::now() }),
            },
            Finding::Short { available, as_of, next_release_at } => {
                let outdated = match earlier {
                    Some(KnownState::GivenBack { version: given, .. }) => *given > version,
                    Some(KnownState::Short(short)) => {
                        short.is_newer_than(version, as_of) || short.as_of == as_of
                    }
                    None => false,
                };
                let source = LearnedFrom::Elsewhere { arrived_at: Instant::now() };
                let short =
                    Shortage { version, available, as_of, next_release_at, source, announced_at: None };
                (!outdated && !memory.is_too_old(as_of)).then_some(KnownState::Short(short))
            }
        };
        telemetry::count_sold_out_message(if news.is_some() {
            SoldOutMessage::Learnt
        } else {
            SoldOutMessage::Outdated
        });
        if let Some(news) = news {
            memory.known.insert(resource, news);
            memory.bound();
        }
    }

    /// Whether a hold may be refused from memory once its idempotency key was looked up. Only a hold of a single
    /// item: of several items, the first one by id that is missing or short must be named, which needs the database.
    pub(super) fn covers(&self, reserve: &Reserve) -> bool {
        self.short(&self.memory(), reserve).is_some()
    }

    /// The refusal of a hold whose idempotency key has no reservation, at the store's `now`; `None` if the database
    /// must decide.
    pub(super) fn refusal(&self, reserve: &Reserve, now: Timestamp) -> Option<Remembered> {
        let mut memory = self.memory();
        let short = self.short(&memory, reserve)?;
        memory.clock = Some((Instant::now(), now));
        let from_elsewhere = matches!(short.source, LearnedFrom::Elsewhere { .. });
        // How long the hint was under way is unknown, but its age by the database's clock is known.
        if short.next_release_at.is_some_and(|at| at <= now)
            || (from_elsewhere && memory.is_too_old(short.as_of))
        {
            return None;
        }
        let item = reserve.items.first()?;
        let refusal = Refusal::OutOfStock {
            resource_id: item.resource_id.clone(),
            requested: item.quantity.units(),
            available: short.available,
            next_release_at: short.next_release_at,
        };
        Some(Remembered { refusal, from_elsewhere })
    }

    fn short(&self, memory: &Memory, reserve: &Reserve) -> Option<Shortage> {
        let [item] = &reserve.items[..] else { return None };
        match memory.known.get(&item.resource_id)? {
            KnownState::Short(short) if short.available < item.quantity.units() && self.is_fresh(short) => {
                Some(*short)
            }
            _ => None,
        }
    }

    fn is_fresh(&self, short: &Shortage) -> bool {
        let lasts = match short.source {
            LearnedFrom::Here { .. } if self.announcements.get().is_some() => RENEWED_AFTER,
            _ => REMEMBERED_FOR,
        };
        short.since().elapsed() < lasts
    }

    /// Announces a finding to other processes; returns whether it was queued.
    fn announce(&self, id: &ResourceId, version: u64, found: Finding) -> bool {
        let Some(queue) = self.announcements.get() else { return false };
        let queued = queue.try_send(StockHint { resource: id.clone(), version, found }).is_ok();
        if !queued {
            telemetry::count_sold_out_message(SoldOutMessage::Dropped);
        }
        queued
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shortage {
    /// Whether this finding is newer than one of that version and instant.
    fn is_newer_than(&self, version: u64, as_of: Timestamp) -> bool {
        self.version > version || self.as_of > as_of
    }

    fn since(&self) -> Instant {
        match self.source {
            LearnedFrom::Here { read_at: since } | LearnedFrom::Elsewhere { arrived_at: since } => since,
        }
    }
}

impl KnownState {
    /// When this process learnt it.
    fn arrived_at(&self) -> Instant {
        match self {
            Self::Short(short) => short.since(),
            Self::GivenBack { arrived_at, .. } => *arrived_at,
        }
    }

    /// Whether it still counts against other findings.
    fn counts(&self) -> bool {
        self.arrived_at().elapsed() < COUNTS_FOR
    }
}

impl Memory {
    /// What is known about a resource and still counts.
    fn known(&self, id: &ResourceId) -> Option<&KnownState> {
        self.known.get(id).filter(|known| known.counts())
    }

    /// Whether a state of that instant is certainly older than a refusal may be.
    fn is_too_old(&self, as_of: Timestamp) -> bool {
        self.clock.is_some_and(|(known_at, said)| {
            let since = i64::try_from(known_at.elapsed().as_micros()).unwrap_or(i64::MAX);
            let now = said.as_microsecond().saturating_add(since);
            now.saturating_sub(as_of.as_microsecond()) >= REMEMBERED_FOR_MICROS
        })
    }

    fn bound(&mut self) {
        if self.known.len() > RESOURCES_MAX {
            self.known.retain(|_, known| known.counts());
        }
    }
}

/// The resources of which an outcome may have made units available.
fn given_back(outcome: &Outcome) -> Vec<&ResourceId> {
    outcome.as_ref().map(crate::engine::Accepted::given_back).unwrap_or_default()
}

#[cfg(test)]
mod tests;
