//! The HTTP API, as an [`axum::Router`] over a [`bespeak::app::App`], and the connections that carry it.
//!
//! Never: rules. A handler parses, asks the app, and answers; what a refusal is in HTTP stands in `problem.rs` alone.

mod base_path;
mod body;
mod import;
mod key;
mod listener;
mod observe;
mod openapi;
mod operations;
mod problem;
mod query;
mod reservations;
mod resources;
mod router;
mod views;
mod webhooks;

pub use base_path::strip;
pub use listener::serve;
pub use openapi::document;
pub use router::router;
