//! Which request something belongs to: the context of a distributed trace, as W3C Trace Context writes it
//! (<https://www.w3.org/TR/trace-context/>).
//!
//! A request brings its context along (`traceparent`, or X-Ray's header) or is given one; it travels with the command
//! into the events that this writes, to their consumers and webhooks. Never: a decision that rests on it. What cannot be
//! read is as if it had not been sent. Next: `context.rs` for who hands it on, `telemetry/spans.rs` for what is exported.

mod parse;

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

/// How long a context is, written as a `traceparent`.
const TEXT_LENGTH: usize = 55;
/// Hexadecimal digits, as Trace Context wants them.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A place in a trace: whatever it causes belongs to the same trace, and comes after this span.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
    sampled: bool,
}

impl TraceContext {
    /// The context of a span.
    pub fn new(trace: NonZeroU128, span: NonZeroU64, sampled: bool) -> Self {
        Self { trace, span, sampled }
    }

    /// The number of the trace.
    pub fn trace(&self) -> NonZeroU128 {
        self.trace
    }

    /// The number of the span in it.
    pub fn span(&self) -> NonZeroU64 {
        self.span
    }

    /// Whether somebody records the trace.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace id as text: what logs and trace viewers find it by.
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

/// The text of a `traceparent`, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; TEXT_LENGTH]);

impl Traceparent {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Digits and hyphens.
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

/// Fills the whole of `text` with the last digits of a number.
fn write_hex(text: &mut [u8], mut number: u128) {
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests;
