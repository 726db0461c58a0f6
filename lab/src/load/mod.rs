//! Puts HTTP load on a server and measures response times: open loop (requests are due at set times, whatever the
//! responses) and closed loop (each connection sends its next request after the response to the last one).
//!
//! Open-loop response times count from the time when a request was due, so a server that stalls cannot hide it
//! ("coordinated omission", Gil Tene). Never: knowledge of Bespeak's rules; this module knows HTTP and clocks.

mod closed;
mod open;
mod record;
mod target;

pub use closed::{ClosedLoop, closed_loop};
pub use open::{OpenLoop, OpenRun, open_loop};
pub use record::{Recorder, Summary, thousands};
pub use target::{Answer, Connection, Target, TargetError};
