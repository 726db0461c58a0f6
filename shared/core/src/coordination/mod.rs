//! What the processes of a fleet tell one another through Redis: hints, never truths.
//!
//! The sold-out gate passes on what a process knows to be sold out; the rate limit counts a holder's requests for all of
//! them. **Nothing here is needed for correctness (I11)**: without Redis, or with one that is slow, emptied or another than
//! before, each process does by itself what it did anyway, and only more slowly. Never: an error to a customer because of
//! Redis, a wait for it that is longer than its time-out, a decision that the books could contradict.
//!
//! Next: `node.rs` for how Redis is asked and when it is not, `gate.rs`, `limit.rs`; distributed locks are in `lock/`.

mod bucket;
mod limit;
mod message;
mod node;
mod options;
mod sold_out_channel;

pub(crate) use limit::RateLimiter;
pub use limit::{Limited, Rate};
pub(crate) use node::RedisNode;
pub use options::CoordinationOptions;
pub(crate) use sold_out_channel::SoldOutChannel;
