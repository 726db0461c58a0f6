//! Background work: tasks that run in steps, and how long such a task runs.
//!
//! [`Expiry`] ends overdue holds and [`Purger`] deletes records past their retention. Each takes small steps; the
//! loop around them either runs until the process stops (a server) or until there is nothing left to do (a function
//! that is frozen between invocations): [`RunUntil`]. Never: rules. The engine decides what may expire, the store
//! what may be purged.

mod clock_watch;
mod expiry;
mod purge;
mod run;

pub use clock_watch::{ClockWatch, ClocksDiffer};
pub use expiry::{Expiry, ExpiryStep};
pub use purge::{HeldBack, PurgeStep, Purger, Retention};
pub use run::{RunReport, RunUntil, time_until};
