//! The integration tests. They are one binary, so that it is linked only once.
#![allow(clippy::expect_used, clippy::panic, clippy::allow_attributes, reason = "tests fail by panicking")]

mod api;
mod asyncapi;
mod audit;
mod cli;
mod conformance;
mod coordination;
mod crowd;
mod deploy;
mod docs;
mod event_log;
mod events;
mod faults;
mod functions;
mod import;
mod lab;
mod load_scripts;
mod local;
mod locks;
mod mysql;
mod openapi;
mod problems;
mod races;
mod retention;
mod tidy;
mod timer;
mod tracing;
mod webhooks;
mod wire;
