//! Bespeak: a reservation engine. Limited stock is held for a while, then committed, released or expired, by crowds,
//! without ever overselling; every change is recorded with its event, in one transaction.
//!
//! Layers, each knowing only those below: [`app`] wires the parts, [`lanes`] batches commands, [`store`] keeps the
//! books, [`engine`] has the rules. See ARCHITECTURE.md.

pub mod app;
pub mod config;
pub mod effects;
pub mod engine;
pub mod events;
pub mod expiry;
mod failpoint;
pub mod fleet;
pub mod lanes;
pub mod lock;
mod redis_client;
pub mod retention;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod until;
pub mod webhooks;
