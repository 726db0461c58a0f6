//! Turns the results of a batch into what the outbox records: events to mark, keys to block, keys to unblock.
//!
//! Receives the events and the publisher's result for each; returns a [`Sent`]. A refusal blocks the key of its event
//! and no other (I10). An outage of the whole log blocks no key.

use std::{collections::HashSet, time::Duration};

use super::{PublishError, RelayOptions, RelayStep, jittered};
use crate::{
    envelope::OutboxEvent,
    store::{Blocked, Sent},
};

/// The back-off of a key if a part of the event log is unavailable. It is longer than a publisher waits for that
/// part, so that the key does not hold up the others in every step.
const PART_AWAY: Duration = Duration::from_secs(15);
/// The longest reason that is stored, in characters.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Returns what to record of a batch, and counts failed and parked keys in `step`.
pub(super) fn results_to_record(
    options: &RelayOptions,
    events: &[OutboxEvent],
    results: Vec<Result<(), PublishError>>,
    step: &mut RelayStep,
) -> Sent {
    debug_assert_eq!(events.len(), results.len());
    let mut sent = Sent::default();
    let mut unavailable = Vec::new();
    let (mut succeeded, mut failed): (HashSet<&str>, HashSet<&str>) = Default::default();
    for (event, result) in events.iter().zip(results) {
        match result {
            Ok(()) => {
                succeeded.insert(&event.key);
                sent.published.push((event.id, event.shard));
                if event.blocked {
                    sent.unblocked.push((event.key.clone(), event.shard));
                }
            }
            Err(PublishError::Rejected(reason)) if failed.insert(&event.key) => {
                // The stored attempts belong to the first event of the key. If that one was published in this batch,
                // the event that failed now is another one, at its first attempt.
                let before = if succeeded.contains(event.key.as_str()) { 0 } else { event.attempts };
                sent.blocked.push(rejected(options, event, before, reason));
            }
            Err(PublishError::Unavailable(reason)) if failed.insert(&event.key) => {
                unavailable.push((event, reason));
            }
            // A later event of a key that has failed already, or one that was not sent for that reason; or a key that
            // the publisher holds back itself.
            Err(_) => {}
        }
    }
    step.parked = sent.blocked.iter().filter(|blocked| blocked.retry_after.is_none()).count() as u64;
    step.failed = sent.blocked.len() as u64;
    if succeeded.is_empty() {
        // The log as a whole is unavailable. That is no key's fault, so no key is blocked for it.
        step.outage = unavailable.first().map(|(_, reason)| reason.clone());
    }
    if succeeded.is_empty() && !step.more {
        return sent;
    }
    // A part of the log is unavailable, or so many events wait that some of reachable partitions may not have been
    // read. The keys that failed back off, so that the next step reads others.
    step.failed += unavailable.len() as u64;
    sent.blocked.extend(
        unavailable.into_iter().map(|(event, reason)| Blocked {
            retry_after: Some(jittered(PART_AWAY)),
            ..blocked(event, reason)
        }),
    );
    // A key that failed stays blocked, even if earlier events of it were published in this batch.
    sent.unblocked.retain(|(key, _)| !failed.contains(key.as_str()));
    sent
}

/// The block of an event that the log refused, after `before` earlier refusals in a row.
fn rejected(options: &RelayOptions, event: &OutboxEvent, before: u32, reason: String) -> Blocked {
    let attempts = before + 1;
    let doubled = 2_u32.saturating_pow(before.min(16));
    let wait = options.back_off_first.saturating_mul(doubled).min(options.back_off_max);
    let retry_after = (attempts < options.attempts_max).then(|| jittered(wait));
    let OutboxEvent { key, event_id, .. } = event;
    let trace_id = event.trace.map(|trace| trace.trace_id()).map(tracing::field::display);
    if retry_after.is_none() {
        tracing::error!(
            key, %event_id, trace_id, reason, attempts,
            "the event log refused an event too often; its key is parked"
        );
    } else {
        tracing::warn!(
            key, %event_id, trace_id, reason, attempts,
            "the event log refused an event; its key backs off"
        );
    }
    Blocked { attempts, retry_after, ..blocked(event, reason) }
}

fn blocked(event: &OutboxEvent, reason: String) -> Blocked {
    Blocked {
        id: event.id,
        key: event.key.clone(),
        shard: event.shard,
        event_id: event.event_id,
        attempts: event.attempts,
        reason: reason.chars().take(REASON_CHARACTERS_MAX).collect(),
        retry_after: None,
    }
}
