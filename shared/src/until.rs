//! How long a background task goes on: for ever in a server, until its work is done in a function that is frozen between its
//! invocations. Every task that is a step in a loop takes it.

/// When a task returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop. Failures are retried meanwhile.
    Stopped,
    /// When there is nothing left to do, or it failed, or it is told to stop.
    Idle,
}

/// What a background task did until it returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran<T> {
    /// What it did, all steps together.
    pub did: T,
    /// Why its last step failed, where it did.
    pub failure: Option<String>,
}
