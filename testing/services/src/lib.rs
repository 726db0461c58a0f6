//! The servers that tests, benchmarks and the lab need, and proxies to hurt them with.
//!
//! Never: part of the product, or of its binary; a server that outlives the process that started it.
//! Next: [`Mysql`], [`Kafka`] and [`Redis`] are where servers come from, [`Proxy`] and [`Switch`] what stands in front of them, `process.rs` what ends it.

mod aws;
mod connections;
mod container;
mod error;
mod handshake;
mod installed;
mod kafka;
mod lambda;
mod mysql;
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
pub use process::Process;
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use redis::Redis;
pub use switch::Switch;
pub use tool::Tool;
