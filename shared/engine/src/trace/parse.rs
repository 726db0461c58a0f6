//! Parses contexts from W3C's `traceparent` and from AWS X-Ray's tracing header.

use std::num::{NonZeroU64, NonZeroU128};

use super::{TEXT_LENGTH, TraceContext};

impl TraceContext {
    /// Parses a `traceparent`; `None` if the text is not one.
    ///
    /// As the recommendation demands: digits are in lower case, no id is all zeros, and nothing follows the flags in
    /// version 00. Of a later version, the part that version 00 has is read, whatever follows it. Version ff is
    /// invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (known, rest) = bytes.split_at_checked(TEXT_LENGTH)?;
        let version = hex(&known[..2])?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !ends || [2, 35, 52].iter().any(|place| known[*place] != b'-') {
            return None;
        }
        let trace = NonZeroU128::new(hex(&known[3..35])?)?;
        let span = NonZeroU64::new(u64::try_from(hex(&known[36..52])?).ok()?)?;
        let flags = hex(&known[53..])?;
        Some(Self::new(trace, span, flags & 1 == 1))
    }

    /// Parses X-Ray's tracing header, such as
    /// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`; `None` if it has no root. The
    /// header of a load balancer has no parent: then `span_without_parent` takes its place.
    ///
    /// The time and the rest of the root, written side by side, are the W3C trace id
    /// (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-traceids>).
    pub fn parse_xray(text: &str, span_without_parent: NonZeroU64) -> Option<Self> {
        let (mut trace, mut parent, mut sampled) = (None, None, false);
        for field in text.split(';') {
            let Some((name, value)) = field.split_once('=') else { continue };
            match name.trim() {
                "Root" => trace = Some(xray_root(value.trim())?),
                "Parent" => parent = Some(xray_parent(value.trim())?),
                "Sampled" => sampled = value.trim() == "1",
                _ => {}
            }
        }
        Some(Self::new(trace?, parent.unwrap_or(span_without_parent), sampled))
    }
}

/// Parses `1-`, 8 digits of a time, `-` and 24 more digits.
fn xray_root(text: &str) -> Option<NonZeroU128> {
    let (time, rest) = text.strip_prefix("1-")?.split_once('-')?;
    if (time.len(), rest.len()) != (8, 24) {
        return None;
    }
    NonZeroU128::new((hex(time.as_bytes())? << 96) | hex(rest.as_bytes())?)
}

fn xray_parent(text: &str) -> Option<NonZeroU64> {
    if text.len() != 16 {
        return None;
    }
    NonZeroU64::new(u64::try_from(hex(text.as_bytes())?).ok()?)
}

/// Parses a number of at most 32 hexadecimal digits in lower case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}
