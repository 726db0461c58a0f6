//! MySQL 8 and MariaDB 10.6 or later: READ COMMITTED, text statements, few round trips, the database's clock.
//!
//! Nothing here is of one of the two alone, and nothing infers from a locked row what only its version proves. A
//! transaction lives in a task that nobody cancels. Next: `session.rs` for the write path, `read.rs` for views,
//! `connect.rs` for what a session is.

mod audit;
mod books;
mod connect;
mod dead_letters;
mod error;
mod inbox;
mod leases;
mod outbox;
mod purge;
mod read;
mod round_trip;
mod row;
mod schema;
mod session;
mod sql;
mod statements;
mod store;
mod webhooks;
mod write;

use super::{Clock, Contention, Guard, StoreError};

pub use schema::create_database;
pub use store::{MysqlOptions, MysqlStore};
