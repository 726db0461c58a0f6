//! The conformance suite that every back end must pass: plain functions over a store, one for each promise and named
//! after it.
//!
//! Each runs on a fresh database, with a fixed clock and with the store's own. A back end runs all of them through
//! [`conformance_tests!`](crate::conformance_tests). A failure panics, because these are tests.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a suite of tests that other crates call"
)]

mod endpoints;
mod events;
mod health;
mod keys;
mod life;
mod record;
mod stock;
mod traces;
mod webhooks;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{CommitMode, Database, FixedClock, StoreError, WebhookStore};
use crate::engine::{
    Accepted, Change, Command, Define, IdempotencyKey, Item, Items, Limits, Outcome, Quantity, Refusal,
    Reservation, Reserve, ReserveDraft, Resource, ResourceId, Status, Token, Ttl,
};

pub use endpoints::*;
pub use events::*;
pub use health::*;
pub use keys::*;
pub use life::*;
pub use record::*;
pub use stock::*;
pub use traces::*;
pub use webhooks::*;

/// A store under test, on a fresh database.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Database>,
    /// A second handle on the same database, like that of another process.
    pub other: Arc<dyn Database>,
    /// Two handles on the same webhooks, like those of two processes.
    pub webhooks: [Arc<dyn WebhookStore>; 2],
    /// Enqueues a delivery, as a consumer does in its own transaction.
    pub enqueue: Enqueue,
    /// The fixed clock of both handles; `None` if they use their own.
    pub clock: Option<FixedClock>,
}

/// How long [`Subject::held`] holds: long enough for the commands of a test meanwhile, short enough to wait for.
const HELD: Duration = Duration::from_secs(3);
/// How long a client retries if it loses to other writers.
const PATIENCE: Duration = Duration::from_secs(30);

impl Subject {
    /// Creates a subject from two handles on one database and a function that enqueues deliveries there.
    pub fn new(handles: [Arc<dyn Database>; 2], clock: Option<FixedClock>, enqueue: Enqueue) -> Self {
        let [store, other] = handles;
        let webhooks: [Arc<dyn WebhookStore>; 2] = [store.clone(), other.clone()];
        Self { store, other, webhooks, enqueue, clock }
    }

    /// Lets time pass: advances a fixed clock, or waits.
    async fn pass(&self, span: Duration) {
        if let Some(clock) = &self.clock {
            clock.advance(span);
            return;
        }
        let until = self.now().await + span;
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while self.now().await < until {
            ticks.tick().await;
        }
    }

    async fn now(&self) -> crate::engine::Timestamp {
        self.store.due(1).await.expect("due").now
    }

    /// Defines a resource.
    async fn stock(&self, name: &str, total: u64) {
        let define = Define { resource_id: id(name), total, fulfilment: None };
        self.one(Command::Define(define)).await.expect("defined");
    }

    /// Runs one command in its own transaction.
    async fn one(&self, command: Command) -> Outcome {
        one(&self.store, command).await
    }

    /// Holds units for [`HELD`], under a random key.
    async fn held(&self, items: &[(&str, u64)]) -> Reservation {
        accepted(self.one(Command::Reserve(reserve(&random_key(), items, HELD.as_secs()))).await).0
    }

    /// Counts the events that await publication.
    async fn unpublished(&self) -> u64 {
        self.store.backlog().await.expect("counted").unpublished
    }

    async fn available(&self, name: &str) -> u64 {
        self.resource(name).await.available
    }

    async fn resource(&self, name: &str) -> Resource {
        self.store.resource(&id(name)).await.expect("read").expect("known")
    }

    /// Audits the books: the last line of every test.
    async fn assert_consistent(&self) {
        let audit = self.store.audit().await.expect("audited");
        assert!(audit.is_clean(), "{audit:#?}");
    }
}

/// Runs one command as a client does: retries for a while if it loses to other writers until the store gives up. A
/// guard may give up under contention (above all a version check), and never changes stock when it does.
async fn one(store: &Arc<dyn Database>, command: Command) -> Outcome {
    let patience = Instant::now() + PATIENCE;
    loop {
        match store.execute(std::slice::from_ref(&command), CommitMode::Commit).await {
            Err(StoreError::Contended { .. }) if Instant::now() < patience => {}
            executed => {
                return executed.expect("executed").outcomes.into_iter().next().expect("one outcome");
            }
        }
    }
}

fn id(name: &str) -> ResourceId {
    ResourceId::new("id", name).expect("valid")
}

fn random_key() -> String {
    Uuid::now_v7().to_string()
}

fn reserve(key: &str, items: &[(&str, u64)], ttl_seconds: u64) -> Reserve {
    let items = items
        .iter()
        .map(|(name, units)| Item {
            resource_id: id(name),
            quantity: Quantity::new("q", *units).expect("valid"),
        })
        .collect();
    ReserveDraft {
        items: Items::new(items, &Limits::default()).expect("valid"),
        ttl: Ttl::new("ttl", ttl_seconds).expect("valid"),
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(key).expect("valid"),
    }
    .with_token(Token::from_uuid(Uuid::now_v7()))
}

fn accepted(outcome: Outcome) -> (Reservation, Change) {
    match outcome.expect("accepted") {
        Accepted::Reservation { reservation, change } => (reservation, change),
        Accepted::Resource { resource, .. } => panic!("another's answer: {resource:?}"),
    }
}

/// A clock that stands still until a test moves it.
pub fn fixed_clock() -> Option<FixedClock> {
    Some(FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time")))
}

fn slug(outcome: &Outcome) -> &'static str {
    outcome.as_ref().err().map_or("accepted", Refusal::slug)
}

/// Makes the modules of tests `fixed` and `own`, which run the whole suite on one back end. `$open` is an async
/// function from `Option<FixedClock>` to a [`Subject`] on a fresh database (with a value that must be kept while the
/// database is used).
#[macro_export]
macro_rules! conformance_tests {
    ($open:path) => {
        mod fixed {
            $crate::conformance_tests!(@guarded $open, $crate::store::conformance::fixed_clock());
            $crate::conformance_tests!(@unguarded $open, $crate::store::conformance::fixed_clock());
        }
        mod own {
            $crate::conformance_tests!(@guarded $open, None);
            $crate::conformance_tests!(@unguarded $open, None);
        }
    };
    // What can differ between guards: how a batch of commands locks, decides and writes.
    (@guarded $open:path, $clock:expr) => {
        $crate::conformance_tests!(@each $open, $clock;
            crowds_never_oversell, all_or_nothing, overlapping_items_in_any_order_never_block,
            a_total_never_falls_below_the_units_in_use, refusals_write_nothing, a_refusal_names_the_next_release,
            a_dry_run_changes_nothing, a_retry_finds_its_reservation,
            a_retry_of_an_ended_reservation_is_refused, a_key_is_one_request,
            concurrent_uses_of_one_key_make_one_reservation, one_of_commit_release_and_expire_wins,
            later_commands_get_how_the_reservation_ended, a_hold_ends_on_time,
            overdue_units_are_sold_without_a_sweeper, many_overdue_holds_expire_at_once,
            more_overdue_holds_than_a_batch_are_not_out_of_stock, overdue_holds_of_several_resources_expire,
            overdue_units_of_many_resources_are_sold_in_one_batch,
            a_hold_is_extended_within_its_longest_life, reservations_are_read_as_written,
            acknowledged_holds_are_visible_to_other_processes, every_change_has_its_event,
            a_large_mixed_batch_is_executed_in_order, events_carry_the_traces_of_their_requests
        );
    };
    // What no guard has a part in: the schema, reads, leases, inbox, outbox, webhooks.
    (@unguarded $open:path, $clock:expr) => {
        $crate::conformance_tests!(@each $open, $clock;
            a_key_is_compared_byte_by_byte, due_holds_are_listed_oldest_first, resources_are_paged_in_order,
            leases_are_shared_and_fenced, a_failure_blocks_only_its_own_key, published_events_can_be_sent_again,
            an_event_takes_effect_once, a_late_event_changes_nothing, old_inbox_rows_are_purged,
            dead_letters_are_stored_unchanged, endpoints_are_created_changed_and_read,
            a_rotated_secret_signs_for_a_while, a_rotation_is_safe_to_retry,
            creating_an_endpoint_is_idempotent_and_bounded, the_configured_endpoint_is_created_once,
            a_failing_endpoint_is_paused_and_probed, a_lost_probe_is_repeated,
            dispatchers_at_the_same_time_make_one_probe,
            endpoints_are_disabled_for_a_confirmed_reason, events_are_kept_for_endpoints_that_cannot_have_them,
            missing_deliveries_are_backfilled_once,
            a_delivery_is_claimed_by_one_dispatcher, a_claim_takes_no_more_than_the_free_room,
            an_expired_claim_cannot_record_attempts, attempts_end_as_recorded,
            a_disabled_endpoint_keeps_its_deliveries, deliveries_are_listed_newest_first,
            a_delivery_is_redelivered, deliveries_of_a_time_range_are_replayed, old_deliveries_are_purged,
            deleting_an_endpoint_deletes_its_deliveries, a_delivery_carries_the_trace_of_its_event
        );
    };
    (@each $open:path, $clock:expr; $($name:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (subject, _kept) = $open($clock).await;
            $crate::store::conformance::$name(&subject).await;
        }
    )+};
}

/// Makes tests of the part of the suite that can differ between guards, under one of them.
///
/// The clock stands still: every guard reads the time by the same statement, so
/// [`conformance_tests!`](crate::conformance_tests) covers both clocks under the guard of its back end, and the rest
/// of the suite with it.
#[macro_export]
macro_rules! guard_conformance_tests {
    ($open:path) => {
        $crate::conformance_tests!(@guarded $open, $crate::store::conformance::fixed_clock());
    };
}
