//! MySQL 8 and MariaDB 10.6 or later: READ COMMITTED, text statements, few round trips, the database's clock.
//!
//! Every statement works on both servers, and no decision infers from a locked row what only its version proves. A
//! transaction runs in a task that is never cancelled, and begins with START TRANSACTION READ WRITE, which a server
//! that was made read-only refuses: its books may not be current any more. Next: `session.rs` for the write path,
//! `read.rs` for views, `connect.rs` for the settings of a session.

mod audit;
mod books;
mod connect;
mod dead_letters;
mod error;
mod inbox;
mod leases;
mod operations;
mod outbox;
mod outbox_filter;
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
