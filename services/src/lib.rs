//! The servers that tests, benchmarks and the lab need, and proxies to hurt them with.
//!
//! Never: part of the product, or of its binary; a server that outlives the process that started it.
//! Next: [`Mysql`], [`Kafka`] and [`Redis`] are where servers come from, [`Proxy`] and [`Gate`] what stands in front of them, `process.rs` what ends it.

mod connections;
mod container;
mod error;
mod gate;
mod handshake;
mod installed;
mod kafka;
mod mysql;
mod port;
mod process;
mod proxy;
mod redis;
mod tool;

pub use error::ServiceError;
pub use gate::Gate;
pub use kafka::Kafka;
pub use mysql::Mysql;
pub use process::Process;
pub use proxy::Proxy;
pub use redis::Redis;
pub use tool::Tool;
