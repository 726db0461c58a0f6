//! The request behind the work that a task does: its trace context and its request id.
//!
//! [`within`] runs a future on behalf of a request. Code below it reads the context with [`current`], so a command
//! carries it into its events and a log line names it, without a parameter in every function between. Task-local: a
//! spawned task starts without one. Never: a decision that depends on it. The context itself, and its text format,
//! are the engine's ([`TraceContext`]); `telemetry/spans.rs` exports spans.

use std::{
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
};

pub use bespeak_engine::{TraceContext, TraceId, Traceparent};

/// The HTTP header and Kafka header of W3C Trace Context (<https://www.w3.org/TR/trace-context/>).
pub const TRACEPARENT: &str = "traceparent";

/// A request: its place in a trace, and the id by which its client can ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The request's span.
    pub trace: TraceContext,
    /// Its id: printable ASCII, at most 128 characters.
    pub request_id: Arc<str>,
}

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// Runs `work` on behalf of a request. Cancel-safe if `work` is.
pub async fn within<T>(request: RequestContext, work: impl Future<Output = T>) -> T {
    CURRENT.scope(request, work).await
}

/// The trace context of the request that this task works for; `None` for the process's own work, such as the expiry
/// timer.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|request| request.trace).ok()
}

/// The request that this task works for.
pub(crate) fn current_request() -> Option<RequestContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Starts a new, unsampled trace for a request that came without one.
pub fn draw() -> TraceContext {
    // Trace ids are names, not secrets, so a fast generator will do.
    let trace = NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN);
    TraceContext::new(trace, draw_span(), false)
}

/// Draws a span id.
pub fn draw_span() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_context_belongs_to_one_task_only() {
        let [one, other] = ["1", "2"].map(|id| RequestContext { trace: draw(), request_id: id.into() });
        assert_eq!((current(), current_request()), (None, None));
        let seen = within(one.clone(), async {
            let inner = within(other.clone(), async { (current(), current_request()) }).await;
            (inner, current(), tokio::spawn(async { current() }).await.unwrap())
        });
        let (one, of_other) = (one.trace, other.trace);
        assert_eq!(seen.await, ((Some(of_other), Some(other)), Some(one), None));
    }
}
