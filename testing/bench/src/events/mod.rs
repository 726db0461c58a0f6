//! The cases of the event pipeline: from the outbox through a relay into a broker, and from there to effects.
//!
//! Each case has a database on the MySQL server of the other cases and a broker of its own. Both share the
//! machine's cores with the code that is measured. Next: `backlog.rs` for the events, `timed.rs` for how the
//! time is divided.

mod backlog;
mod broker;
mod consume;
mod cost;
mod drain;
mod latency;
mod plain;
mod tables;
mod timed;
mod watch;

pub(crate) use backlog::Backlog;
pub(crate) use broker::{Broker, SOURCE, url};
pub(crate) use consume::consume;
pub(crate) use cost::cost;
pub(crate) use drain::{drain, purge};
pub(crate) use latency::latency;
pub(crate) use tables::migrated;
