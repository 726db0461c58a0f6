//! Whole numbers in JSON.

use std::fmt;

use bespeak::engine::whole_number;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// The longest text that an error message repeats, in bytes.
const SHOWN_MAX: usize = 40;

/// A whole number that is not negative, however it is written: for JSON, `300`, `300.0` and `3e2` are the same number.
/// It is read from its text, because a float would accept `300.00000000000000001` as well.
#[derive(Clone, Copy)]
pub(crate) struct Whole(pub(crate) u64);

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        whole_number(text).map(Self).ok_or_else(|| {
            let shown = text.get(..SHOWN_MAX).map_or_else(|| text.to_owned(), |start| format!("{start}.."));
            D::Error::custom(format!("must be a whole number that is not negative, got {shown}"))
        })
    }
}
