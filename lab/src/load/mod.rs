//! HTTP load, and what it measured: open loop (arrivals at set times, whatever the answers) and closed loop (each
//! connection asks again when it was answered).
//!
//! Open-loop response times count from when a request should have been sent, so a server that stalls cannot hide it
//! ("coordinated omission", Gil Tene). Never: anything of Bespeak's rules; this crate knows HTTP and clocks.

mod closed;
mod open;
mod record;
mod target;

pub use closed::{ClosedLoop, closed_loop};
pub use open::{OpenLoop, OpenRun, open_loop};
pub use record::{Recorder, Summary, thousands};
pub use target::{Answer, Connection, Target, TargetError};
