//! The servers that tests, benchmarks and the lab need, and proxies that inject faults in front of them.
//!
//! Never: part of the product or of its binary; a server that outlives the process that started it.
//! Next: [`Mysql`], [`Kafka`], [`Redis`] and [`Aws`] start servers, [`Proxy`] and [`Switch`] stand in front of them,
//! `origin.rs` kills and freezes them, `process.rs` ends them.

mod aws;
mod connections;
mod container;
mod error;
mod handshake;
mod installed;
mod kafka;
mod lambda;
mod mysql;
mod origin;
mod port;
mod process;
mod prometheus;
mod proxy;
mod redis;
mod switch;
mod tool;

pub use aws::Aws;
pub use error::ServiceError;
pub use kafka::Kafka;
pub use lambda::{Failure, Function, Invocation};
pub use mysql::Mysql;
use process::Process;
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use redis::Redis;
pub use switch::Switch;
pub use tool::Tool;
