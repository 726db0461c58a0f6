//! The canonical form of JSON: names sorted, no white space, each string with as few escapes as JSON allows, and each
//! number with exactly its value.
//!
//! It works on text, because `serde_json` rounds numbers to 64 bits unless its feature `arbitrary_precision` is on,
//! which changes how the whole workspace deserialises. Never: a number whose value depends on a float, or on the
//! features with which `serde_json` was built.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::number::{Decimal, float_of_version_0_2};

/// The deepest nesting, in levels of objects and arrays.
pub(crate) const DEPTH_MAX: usize = 126;
/// The precision, in significant digits, that a 64-bit float keeps for any decimal.
const FLOAT_DIGITS: usize = 15;

/// Text in canonical form.
pub(crate) struct Canonical {
    pub(crate) text: String,
    /// Whether every number is an integer of 64 bits or a short decimal: one that a 64-bit float keeps. Version 0.2
    /// rounded all others.
    pub(crate) has_plain_numbers: bool,
}

/// Converts JSON to canonical form.
///
/// # Errors
/// The end of a sentence that starts with the value: an object has a name twice, a string has half of a surrogate
/// pair, or the nesting is too deep.
pub(crate) fn canonical(json: &RawValue) -> Result<Canonical, String> {
    read(json, exact)
}

/// Converts JSON to canonical form as version 0.2 did, with its numbers rounded to 64 bits.
///
/// # Errors
/// Version 0.2 refused it.
pub(crate) fn rounded(json: &RawValue) -> Result<Canonical, String> {
    read(json, round)
}

fn read(json: &RawValue, number: fn(&str) -> Result<Number, String>) -> Result<Canonical, String> {
    let mut reader = Reader { rest: json.get(), number, has_plain_numbers: true };
    let node = reader.value(0)?;
    let mut text = String::with_capacity(json.get().len());
    node.write(&mut text);
    Ok(Canonical { text, has_plain_numbers: reader.has_plain_numbers })
}

/// A number in canonical form.
struct Number {
    text: String,
    /// Whether version 0.2 kept it: see [`Canonical::has_plain_numbers`].
    is_plain: bool,
}

/// A number with its value. A short decimal has the shortest spelling; every other number stays as it is written.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as `round`")]
fn exact(text: &str) -> Result<Number, String> {
    let short = if is_integer(text) { None } else { short_decimal(text) };
    let is_plain = short.is_some() || is_64_bit_integer(text);
    Ok(Number { text: short.unwrap_or_else(|| text.to_owned()), is_plain })
}

/// A number as version 0.2 kept it.
fn round(text: &str) -> Result<Number, String> {
    if is_64_bit_integer(text) {
        return exact(text);
    }
    let float = float_of_version_0_2(text).ok_or_else(|| "must have only finite numbers".to_owned())?;
    exact(&serde_json::Value::from(float).to_string())
}

fn is_integer(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

fn is_64_bit_integer(text: &str) -> bool {
    is_integer(text) && text != "-0" && (text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok())
}

/// The shortest spelling of a decimal that a 64-bit float keeps; `None` for other numbers.
fn short_decimal(text: &str) -> Option<String> {
    let value = Decimal::parse(text).filter(|value| value.precision() <= FLOAT_DIGITS)?;
    let short = serde_json::Value::from(float_of_version_0_2(text)?).to_string();
    (Decimal::parse(&short)? == value).then_some(short)
}

/// A value, with its scalars in canonical form.
enum Node {
    Object(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Scalar(String),
}

impl Node {
    fn write(&self, text: &mut String) {
        match self {
            Self::Object(fields) => {
                text.push('{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    if n > 0 {
                        text.push(',');
                    }
                    text.push_str(&quoted(name));
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
            Self::Array(values) => {
                text.push('[');
                for (n, value) in values.iter().enumerate() {
                    if n > 0 {
                        text.push(',');
                    }
                    value.write(text);
                }
                text.push(']');
            }
            Self::Scalar(scalar) => text.push_str(scalar),
        }
    }
}

/// Reads text that is JSON for certain, because it comes from a [`RawValue`].
struct Reader<'a> {
    rest: &'a str,
    number: fn(&str) -> Result<Number, String>,
    has_plain_numbers: bool,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(format!("must be nested at most {DEPTH_MAX} levels deep"));
        }
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => Ok(Node::Scalar(quoted(&self.string()?))),
            Some('-' | '0'..='9') => Ok(Node::Scalar(self.number()?)),
            // `true`, `false` or `null`.
            _ => Ok(Node::Scalar(self.token(|c| c.is_ascii_lowercase()).to_owned())),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, String> {
        let mut fields = BTreeMap::new();
        self.skip();
        while self.peek() == Some('"') {
            let name = self.string()?;
            debug_assert_eq!(self.peek(), Some(':'), "a name is followed by its value");
            self.skip();
            let value = self.value(depth + 1)?;
            if let Some(_earlier) = fields.insert(name.clone(), value) {
                return Err(format!("must not have the name {name:?} twice in one object"));
            }
            if self.peek() == Some(',') {
                self.skip();
            }
        }
        self.skip();
        Ok(Node::Object(fields))
    }

    fn array(&mut self, depth: usize) -> Result<Node, String> {
        let mut values = Vec::new();
        self.skip();
        while !matches!(self.peek(), Some(']') | None) {
            values.push(self.value(depth + 1)?);
            if self.peek() == Some(',') {
                self.skip();
            }
        }
        self.skip();
        Ok(Node::Array(values))
    }

    /// A string, decoded.
    fn string(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (token, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| end + 2));
        self.rest = rest;
        if !token.contains('\\') {
            return Ok(token.trim_matches('"').to_owned());
        }
        serde_json::from_str(token)
            .map_err(|_| format!("must not have half of a surrogate pair, as in {token}"))
    }

    fn number(&mut self) -> Result<String, String> {
        let token = self.token(|c| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let Number { text, is_plain } = (self.number)(token)?;
        self.has_plain_numbers &= is_plain;
        Ok(text)
    }

    /// The first character of the next token.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.chars().next()
    }

    /// Skips the character that [`Self::peek`] returned, which is ASCII.
    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    fn token(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }
}

/// A string in quotes, with the escapes that JSON requires.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
