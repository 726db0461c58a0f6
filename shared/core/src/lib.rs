//! Bespeak: a reservation engine. Limited stock is held for a while, then committed, released or expired, by crowds,
//! without ever overselling; every change is recorded with its event, in one transaction.
//!
//! The modules in layers, each importing only those below it (a test keeps it so):
//!
//! | module | what it does |
//! |---|---|
//! | [`app`] | opens back ends, starts background tasks, the calls that triggers make |
//! | [`config`] | the settings: their table, their parsing |
//! | [`delivery`], [`events`] | webhooks over HTTP; the relay, the consumer, the event logs |
//! | [`background`] | expiry, purging, how long a task runs |
//! | [`coordination`] | hints that processes share through Redis |
//! | [`dispatch`] | how commands share transactions |
//! | [`lock`] | distributed locks |
//! | [`store`] | the books: ports and back ends |
//! | [`effects`], [`webhooks`], [`envelope`] | what events cause; endpoints and deliveries; the format of events |
//! | [`telemetry`], [`trace`] | logs, metrics, spans; the request behind a task |
//! | [`engine`] | the rules, a crate of its own |

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
mod redis_client;
pub mod secret_url;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod webhooks;

pub use bespeak_engine as engine;
