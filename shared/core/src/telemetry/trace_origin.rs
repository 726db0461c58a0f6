//! What a request does with the trace context that it came with: continue it, or only refer to it.

use crate::trace::TraceContext;

/// The trace context that came with a request.
#[derive(Clone, Copy, Debug)]
pub enum TraceOrigin {
    /// There was none.
    None,
    /// The request continues this trace, and is sampled if that is.
    Parent(TraceContext),
    /// The request begins a trace of its own, because its client is not trusted; the span refers to this one.
    Link(TraceContext),
}

impl TraceOrigin {
    /// The context that the request continues.
    pub(super) fn parent(self) -> Option<TraceContext> {
        match self {
            Self::Parent(context) => Some(context),
            Self::None | Self::Link(_) => None,
        }
    }

    /// The context that the request only refers to.
    #[cfg(feature = "otlp")]
    pub(super) fn link(self) -> Option<TraceContext> {
        match self {
            Self::Link(context) => Some(context),
            Self::None | Self::Parent(_) => None,
        }
    }
}
