//! Bespeak: a reservation engine. Limited stock is held for a while, then committed, released or expired, without
//! overselling under any load. Every change and its event are written in one transaction.
//!
//! The modules in layers; each imports only modules below it, and a test enforces that:
//!
//! | module | what it does |
//! |---|---|
//! | [`app`] | opens back ends, starts background tasks, offers the calls that triggers make |
//! | [`config`] | the settings: their table and their parsing; only [`app`] and binaries import it |
//! | [`delivery`] | webhooks over HTTP |
//! | [`events`] | the relay, the consumer, the event logs |
//! | [`background`] | expiry, purging, how long a task runs |
//! | [`coordination`] | hints and rate limits that processes share through Redis |
//! | [`dispatch`] | how commands share transactions |
//! | [`lock`] | distributed locks |
//! | [`store`] | the books: ports and back ends |
//! | [`effects`], [`webhooks`] | the effects of events; endpoints and deliveries as records |
//! | [`supervision`] | the tasks of a process, and the end of one that should not end |
//! | [`telemetry`] | logs, metrics, spans |
//! | [`envelope`] | the format of an event record |
//! | [`trace`], [`secret_url`] | the request behind a task; a URL whose password is hidden |
//! | [`engine`] | the rules, a crate of its own |

// Without an optional client, the code that only this client uses is unused. A build with all clients shows dead code.
#![cfg_attr(not(feature = "redis"), expect(dead_code, unused_imports, reason = "used by the Redis client"))]
#![cfg_attr(
    all(feature = "redis", not(feature = "webhooks-client")),
    expect(dead_code, reason = "used by the client of webhooks")
)]

pub mod app;
pub mod background;
pub mod config;
pub mod coordination;
pub mod delivery;
pub mod dispatch;
pub mod effects;
pub mod envelope;
pub mod events;
mod failpoint;
pub mod http_options;
pub mod lock;
#[cfg(feature = "redis")]
mod redis_client;
pub mod secret_url;
pub mod store;
pub mod supervision;
pub mod telemetry;
pub mod trace;
pub mod webhooks;

pub use bespeak_engine as engine;
