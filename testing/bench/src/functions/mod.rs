//! The cases of the Lambda functions: their programs, invoked by a Runtime API on loopback.
//!
//! Each program is built alone, with the features that are deployed. The database shares the machine's cores with it.
//! Next: `invoke.rs`, the requests.

mod cold;
mod concurrency;
mod events;
mod invoke;
mod warm;

pub(crate) use cold::cold;
pub(crate) use concurrency::concurrency;
pub(crate) use events::{consume, relay};
pub(crate) use invoke::BARE;
pub(crate) use warm::{bare, warm};
