//! The integration tests. They are one binary, so that it is linked only once.
#![allow(clippy::expect_used, clippy::panic, clippy::allow_attributes, reason = "tests fail by panicking")]

mod api;
mod api_tools;
mod asyncapi;
mod audit;
mod cli;
mod conformance;
mod connections;
mod coordination;
mod damage;
mod deploy;
mod docs;
mod event_log;
mod events;
mod faults;
mod first_start;
mod functions;
mod import;
mod input;
mod lab;
mod load_scripts;
mod local;
mod locks;
mod mysql;
mod openapi;
mod openreserve;
mod operations;
mod problems;
mod races;
mod retention;
mod stale_clock;
mod tidy;
mod tracing;
mod untrusted_traces;
mod webhooks;
mod wire;

/// Tests that need the machine to themselves: crowds of clients, and what measures a time.
///
/// `cargo xtask test` runs them one after another when all others are done: `.config/nextest.toml` knows a test that
/// belongs here by this module's name in its path. All other tests run beside each other, and must pass on a busy
/// machine.
mod exclusive {
    mod crowd;
    mod timer;
}
