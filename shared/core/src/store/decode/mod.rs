//! Turns rows into records, in the same way for every dialect. A row that the engine could not have written is
//! reported as corrupt and never repaired.
//!
//! Columns are addressed by position. Each function names the columns that it expects, in order; the SELECT of each
//! dialect must list the same columns in the same order.

mod books;
mod columns;
mod dead_letters;
mod effects;
mod leases;
mod outbox;
pub(in crate::store) mod webhooks;

pub(in crate::store) use books::{due, first_resources, next_end, reservations, resource, resource_id};
pub(in crate::store) use columns::{
    Columns, corrupt, micros, timestamp, token, tokens, unreadable, unsigned, uuid,
};
pub(in crate::store) use dead_letters::{dead_letter, dead_letter_id, headers_text};
pub(in crate::store) use effects::{
    known_reservation, known_resource, missing_delivery, smart_key, subscriptions,
};
pub(in crate::store) use leases::lease;
pub(in crate::store) use outbox::{backlog, outbox_row, republish_page, waiting_row};
