//! The context of a distributed trace, which tells what request something belongs to, as W3C Trace Context writes it
//! (<https://www.w3.org/TR/trace-context/>).
//!
//! A request brings its context (`traceparent`, or X-Ray's header) or receives a new one. The context travels with
//! the command into the events that the command writes, and on to their consumers and webhooks. Never: a decision
//! that depends on a context. A context that cannot be parsed is treated as absent. Next: `trace.rs` of the crate
//! `bespeak` for the context of a task, `telemetry/spans.rs` for the spans that are exported.

mod parse;

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

/// The length of a context that is written as a `traceparent`, in bytes.
const TEXT_LENGTH: usize = 55;
/// Hexadecimal digits in lower case, as Trace Context requires.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A position in a trace: everything that it causes belongs to the same trace and comes after this span.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
    sampled: bool,
}

impl TraceContext {
    /// Creates the context of a span.
    pub fn new(trace: NonZeroU128, span: NonZeroU64, sampled: bool) -> Self {
        Self { trace, span, sampled }
    }

    /// The id of the trace, as a number.
    pub fn trace(&self) -> NonZeroU128 {
        self.trace
    }

    /// The id of the span, as a number.
    pub fn span(&self) -> NonZeroU64 {
        self.span
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace id as text, as logs and trace viewers show it.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.trace)
    }

    /// The context as a `traceparent`.
    pub fn traceparent(&self) -> Traceparent {
        let mut text = [b'-'; TEXT_LENGTH];
        text[..2].copy_from_slice(b"00");
        write_hex(&mut text[3..35], self.trace.get());
        write_hex(&mut text[36..52], u128::from(self.span.get()));
        text[53..].copy_from_slice(if self.sampled { b"01" } else { b"00" });
        Traceparent(text)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traceparent().as_str())
    }
}

/// The text of a `traceparent`, stored without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; TEXT_LENGTH]);

impl Traceparent {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII digits, letters and hyphens, so the conversion cannot fail.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A trace id, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        write_hex(&mut text, self.0.get());
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// Fills all of `text` with the last hexadecimal digits of a number.
fn write_hex(text: &mut [u8], mut number: u128) {
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests;
