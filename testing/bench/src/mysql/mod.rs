//! The cases on a MySQL server.
//!
//! Next: `database.rs`, the server; `contender.rs`, the strategies and the hand-written transaction that are compared.

mod contender;
mod database;
pub(crate) mod handwritten;
mod hot_resource;
mod many_resources;
mod sold_out;
mod store_alone;
mod ten_million;

pub(crate) use database::Database;
pub(crate) use hot_resource::{hot_resource, latency, lone_client};
pub(crate) use many_resources::many_resources;
pub(crate) use sold_out::sold_out;
pub(crate) use store_alone::store_alone;
pub(crate) use ten_million::ten_million;
