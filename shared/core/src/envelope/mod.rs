//! The format of events: everything that encodes an event, decodes it or describes its bodies.
//!
//! `encode.rs` turns an [`OutboxEvent`] into a [`Record`], the form in which every event log carries it:
//! `CloudEvents` 1.0 in the Kafka binding's binary mode. `record.rs` decodes a record into an [`Incoming`] event, or
//! returns a [`Poison`] with the reason. `webhook_body.rs` and `stock_body.rs` encode the bodies of webhooks;
//! `schema.rs` and `asyncapi.rs` describe all of them. Never: I/O, a clock, trust in the content of a record.

pub mod asyncapi;
mod encode;
mod incoming;
mod outbox_event;
mod record;
mod schema;
mod stock_body;
mod webhook_body;

pub use encode::record;
pub use incoming::{Incoming, Subject};
pub use outbox_event::OutboxEvent;
pub use record::{CE_TRACEPARENT, Origin, Poison, Record, VALUE_BYTES_MAX};
pub use schema::schemas;
pub use stock_body::{StockBodyType, StockWebhookBody};
pub use webhook_body::{WEBHOOK_TEST, WebhookTest, webhook_body, webhook_test_body};
