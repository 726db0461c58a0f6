//! The context of the task that runs: whoever gives a command gives it along, without every function between having to.

use super::TraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Runs `work` as what this context asked for.
pub async fn within<T>(context: TraceContext, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// The context that asked for what runs now; none for what the process does by itself, such as its timer.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_get().ok()
}
