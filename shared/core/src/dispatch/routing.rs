//! Which lane a command goes to.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    engine::{Command, Traced},
    trace,
};

/// Adds the trace of the request whose task this is to its command.
pub(super) fn traced_by_this_task(command: Command) -> Traced {
    Traced { command, trace: trace::current() }
}

/// The lane of a command. Commands of one resource share a lane, chosen by the smallest id of a reservation's
/// resources. Commit and extend lock no resource, so they are spread by token. Commands that give units back are
/// looked up first: see `lane_lookup.rs`.
pub(super) fn route(command: &Command, lanes: usize) -> usize {
    match command {
        Command::Define(define) => lane_of(&define.resource_id, lanes),
        Command::Reserve(reserve) => {
            reserve.items.first().map_or(0, |item| lane_of(&item.resource_id, lanes))
        }
        Command::Commit(token)
        | Command::Release(token)
        | Command::Cancel(token)
        | Command::Expire(token) => lane_of(token, lanes),
        Command::Extend(extend) => lane_of(&extend.token, lanes),
    }
}

pub(super) fn lane_of(what: &impl Hash, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    // The remainder is below `lanes`, which is a usize, so the conversion cannot fail.
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
}
