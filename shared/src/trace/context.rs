//! What asked for what the running task does: whoever gives a command gives it along, and whoever writes a line of the log
//! names it, without every function between having to.

use std::sync::Arc;

use super::TraceContext;

/// A request: its trace, and the id by which its client may ask after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where in which trace it is.
    pub trace: TraceContext,
    /// Its id: printable ASCII.
    pub request_id: Arc<str>,
}

tokio::task_local! {
    static CURRENT: Asked;
}

/// Runs `work` as what this request asked for.
pub async fn within<T>(asked: Asked, work: impl Future<Output = T>) -> T {
    CURRENT.scope(asked, work).await
}

/// The trace of the request that asked for what runs now; none for what the process does by itself, such as its timer.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|asked| asked.trace).ok()
}

/// The request that asked for what runs now.
pub(crate) fn asked() -> Option<Asked> {
    CURRENT.try_with(Clone::clone).ok()
}
