//! The servers that tests, benchmarks and the lab need, and a proxy to hurt them with.
//!
//! Never: part of the product, or of its binary; a server that outlives the process that started it.
//! Next: [`Mysql`] is where a server comes from, [`Proxy`] what stands in front of it, `process.rs` what ends it.

mod connections;
mod container;
mod error;
mod gate;
mod handshake;
mod installed;
mod mysql;
mod port;
mod process;
mod proxy;

pub use error::ServiceError;
pub use gate::Gate;
pub use mysql::Mysql;
pub use process::Process;
pub use proxy::Proxy;
