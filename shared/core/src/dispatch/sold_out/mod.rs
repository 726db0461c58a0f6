//! What is known to be sold out, so that refusing a crowd asks the database once per batch and locks nothing.
//!
//! A refusal from memory is at most [`REMEMBERED_FOR`] old, never outlives the end of a hold of its resource, and is
//! forgotten when this process gives units of it back. Whether a key already bears a reservation is never remembered:
//! that is looked up each time, so a retry finds its own. What other processes found out may be learnt as well: it is
//! judged by the database's clock alone, whenever and in whatever order it comes, so that bound does not rest on how it
//! came. Next: `fleet/gate.rs`, which passes it on.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    engine::{Outcome, Refusal, Reserve, ResourceId, Timestamp},
    store::Executed,
    telemetry::{self, GateMessage},
};

/// How long a refusal is remembered: what a refusal may lag another process's give-back by (I6).
const REMEMBERED_FOR: Duration = Duration::from_millis(50);
const REMEMBERED_FOR_MICROS: i64 = 50_000;
/// How long where others are told: whoever asked the database asks it again before the others forget, so that one process
/// does it for all.
const RENEWED_AFTER: Duration = Duration::from_millis(35);
/// How often others are told the same again at the most.
const TOLD_EVERY: Duration = Duration::from_millis(10);
/// Resources in memory, above which those that are out of date are dropped.
const RESOURCES_MAX: usize = 4_096;

/// What a process found out about a resource, for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StockHint {
    pub(crate) resource: ResourceId,
    /// The resource's, when this was so: of two notices, the one with the higher version is the newer.
    pub(crate) version: u64,
    pub(crate) found: Finding,
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// So few units were available.
    Short {
        available: u64,
        /// The database's clock, while the resource was locked.
        as_of: Timestamp,
        /// When its next hold ends.
        next_release_at: Option<Timestamp>,
    },
    /// Units were given back.
    GivenBack,
}

/// The memory, shared by all lanes.
#[derive(Debug, Default)]
pub(crate) struct SoldOut {
    memory: Mutex<Memory>,
    /// Where others are told, if anywhere.
    others: OnceLock<mpsc::Sender<StockHint>>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<ResourceId, KnownState>,
    /// What the database's clock said, and when that was known here: it is at least as late as that now, and goes on.
    clock: Option<(Instant, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
enum KnownState {
    Short(Shortage),
    /// Units were given back: nothing of a lower version counts, nor what was read before it happened here.
    GivenBack {
        here: Option<Instant>,
        version: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Shortage {
    version: u64,
    available: u64,
    as_of: Timestamp,
    next_release_at: Option<Timestamp>,
    source: Source,
    told_at: Option<Instant>,
}

/// Who asked the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Here { read_at: Instant },
    Elsewhere { arrived_at: Instant },
}

/// A refusal from memory.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) refusal: Refusal,
    /// Whether another process found it out.
    pub(super) from_elsewhere: bool,
}

impl SoldOut {
    /// From now on tells others what is found out here. What cannot be queued is dropped: others ask the database then.
    pub(crate) fn tell(&self, others: mpsc::Sender<StockHint>) {
        // Set once, when the process starts.
        let _ = self.others.set(others);
    }

    /// Learns from what became of a batch.
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
        let mut told_at = None;
        match memory.known.get(id) {
            Some(KnownState::GivenBack { here, version: given })
                if *given > version || here.is_some_and(|at| at >= read_at) =>
            {
                return;
            }
            Some(KnownState::Short(earlier)) => {
                if earlier.is_newer_than(version, as_of) {
                    return;
                }
                if (earlier.version, earlier.available) == (version, available) {
                    told_at = earlier.told_at.filter(|at| at.elapsed() < TOLD_EVERY);
                }
            }
            Some(KnownState::GivenBack { .. }) | None => {}
        }
        if told_at.is_none() && self.tell_others(id, version, found) {
            told_at = Some(Instant::now());
        }
        let source = Source::Here { read_at };
        let short = Shortage { version, available, as_of, next_release_at, source, told_at };
        memory.known.insert(id.clone(), KnownState::Short(short));
    }

    fn observe_give_back(&self, memory: &mut Memory, id: &ResourceId, version: u64) {
        let given = KnownState::GivenBack { here: Some(Instant::now()), version };
        // Whoever remembers it as short was told so lately, and so was this process.
        if let Some(KnownState::Short(short)) = memory.known.insert(id.clone(), given)
            && short.since().elapsed() < 2 * REMEMBERED_FOR
        {
            self.tell_others(id, version, Finding::GivenBack);
        }
    }

    /// Learns what another process found out. What is older than what is known is ignored, whenever it comes.
    pub(crate) fn learn(&self, StockHint { resource, version, found }: StockHint) {
        let mut memory = self.memory();
        let earlier = memory.known.get(&resource);
        let news = match found {
            Finding::GivenBack => match earlier {
                Some(KnownState::Short(short)) if short.version >= version => None,
                Some(KnownState::GivenBack { version: later, .. }) if *later >= version => None,
                _ => Some(KnownState::GivenBack { here: None, version }),
            },
            Finding::Short { available, as_of, next_release_at } => {
                let outdated = match earlier {
                    Some(KnownState::GivenBack { version: given, .. }) => *given > version,
                    Some(KnownState::Short(short)) => {
                        short.is_newer_than(version, as_of) || short.as_of == as_of
                    }
                    None => false,
                };
                let source = Source::Elsewhere { arrived_at: Instant::now() };
                let short = Shortage { version, available, as_of, next_release_at, source, told_at: None };
                (!outdated && !memory.is_too_old(as_of)).then_some(KnownState::Short(short))
            }
        };
        telemetry::count_gate_message(if news.is_some() {
            GateMessage::Learnt
        } else {
            GateMessage::Outdated
        });
        if let Some(news) = news {
            memory.known.insert(resource, news);
            memory.bound();
        }
    }

    /// Whether a hold may be refused from memory, once its key was looked up. Only one of a single item: of several, the
    /// first by id that is missing or short must be named.
    pub(super) fn covers(&self, reserve: &Reserve) -> bool {
        self.short(&self.memory(), reserve).is_some()
    }

    /// The refusal of a hold whose key bears nothing, at the store's `now`; none where that must be asked.
    pub(super) fn refusal(&self, reserve: &Reserve, now: Timestamp) -> Option<Remembered> {
        let mut memory = self.memory();
        let short = self.short(&memory, reserve)?;
        memory.clock = Some((Instant::now(), now));
        let from_elsewhere = matches!(short.source, Source::Elsewhere { .. });
        // How long it took to get here nobody knows; how long ago it was so, the database's clock does.
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
            Source::Here { .. } if self.others.get().is_some() => RENEWED_AFTER,
            _ => REMEMBERED_FOR,
        };
        short.since().elapsed() < lasts
    }

    /// Says whether it was queued.
    fn tell_others(&self, id: &ResourceId, version: u64, found: Finding) -> bool {
        let Some(others) = self.others.get() else { return false };
        let queued = others.try_send(StockHint { resource: id.clone(), version, found }).is_ok();
        if !queued {
            telemetry::count_gate_message(GateMessage::Dropped);
        }
        queued
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shortage {
    /// Whether this was found out after what is of that version and instant.
    fn is_newer_than(&self, version: u64, as_of: Timestamp) -> bool {
        self.version > version || self.as_of > as_of
    }

    fn since(&self) -> Instant {
        match self.source {
            Source::Here { read_at: since } | Source::Elsewhere { arrived_at: since } => since,
        }
    }
}

impl Memory {
    /// Whether what was so then is surely longer ago than anyone may be refused by it.
    fn is_too_old(&self, as_of: Timestamp) -> bool {
        self.clock.is_some_and(|(known_at, said)| {
            let since = i64::try_from(known_at.elapsed().as_micros()).unwrap_or(i64::MAX);
            let now = said.as_microsecond().saturating_add(since);
            now.saturating_sub(as_of.as_microsecond()) >= REMEMBERED_FOR_MICROS
        })
    }

    fn bound(&mut self) {
        if self.known.len() > RESOURCES_MAX {
            self.known.retain(|_, known| match known {
                KnownState::Short(short) => short.since().elapsed() < REMEMBERED_FOR,
                KnownState::GivenBack { here, .. } => here.is_some_and(|at| at.elapsed() < REMEMBERED_FOR),
            });
        }
    }
}

/// The resources of which an outcome may have made units available.
fn given_back(outcome: &Outcome) -> Vec<&ResourceId> {
    outcome.as_ref().map(crate::engine::Accepted::given_back).unwrap_or_default()
}

#[cfg(test)]
mod tests;
