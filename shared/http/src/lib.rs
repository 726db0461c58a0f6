//! The HTTP API, as an [`axum::Router`] over a [`bespeak::app::App`], and the listener that serves it.
//!
//! Never: rules. A handler parses a request, calls the app and answers; `problem/` alone decides which status a refusal
//! has. Next: `routes.rs` for the paths, `router.rs` for the layers around them.

mod actuator;
mod base_path;
mod body;
mod compat;
mod enums;
mod headers;
mod hosts;
mod import;
mod key;
mod listener;
mod metrics_page;
mod observe;
mod openapi;
mod operations;
mod problem;
mod query;
mod reservations;
mod resources;
mod router;
mod routes;
mod state;
mod views;
mod webhooks;
mod whole;

pub use base_path::strip;
pub use import::{ImportLine, ImportLines};
pub use listener::serve;
pub use problem::{ProblemType, problem_types};
pub use router::router;
pub use routes::{contract, document};
