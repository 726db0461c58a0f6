//! Background work: tasks that run in steps, and how long such a task runs.
//!
//! [`Expiry`] ends overdue holds and [`Purger`] deletes records past their retention. Each takes small steps; the loop around
//! them either runs until the process stops (a server) or until there is nothing left to do (a function that is frozen between
//! invocations): [`RunUntil`]. Never: rules. What may be expired or purged is decided by the engine and the store.

mod expiry;
mod purge;
mod run;

pub use expiry::{Expiry, Step as ExpiryStep};
pub use purge::{Purger, Retention, Step as PurgeStep};
pub use run::{RunReport, RunUntil, time_until};
