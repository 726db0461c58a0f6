//! The data that a client attaches to a reservation, and the fingerprint that distinguishes a retry from a different
//! request.

use std::{borrow::Cow, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use super::{
    Holder, Item, Limits, Ttl,
    canonical::{canonical, rounded},
    violation::Violation,
};

/// A JSON object that a client attaches to a reservation and that its events carry. It is kept in canonical form
/// (names sorted, no white space), in which every value is the one that the client sent.
#[derive(Clone, Debug)]
pub struct Metadata {
    text: Arc<RawValue>,
    /// Whether version 0.2 kept every number exactly. Only a fingerprint depends on it, so it is not stored.
    has_plain_numbers: bool,
}

impl Metadata {
    /// Converts a JSON object to canonical form. Numbers keep their value, whatever their size and precision.
    ///
    /// # Errors
    /// The value is not an object, has a name twice in one object, half of a surrogate pair or too many levels, or its
    /// canonical form exceeds the limit.
    pub fn new(json: &RawValue, limits: &Limits) -> Result<Self, Violation> {
        let violation = |problem: String| Violation::new("metadata", problem);
        if !json.get().starts_with('{') {
            return Err(violation("must be a JSON object".to_owned()));
        }
        let canonical = canonical(json).map_err(violation)?;
        let bytes = canonical.text.len();
        if bytes > limits.metadata_bytes_max {
            return Err(violation(format!(
                "must have at most {} bytes, had {bytes}",
                limits.metadata_bytes_max
            )));
        }
        let has_plain_numbers = canonical.has_plain_numbers;
        let metadata = Self::from_canonical(canonical.text);
        metadata
            .map(|metadata| Self { has_plain_numbers, ..metadata })
            .map_err(|_| violation("must be a JSON object".to_owned()))
    }

    /// Wraps text that this type wrote before.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn from_canonical(text: String) -> Result<Self, serde_json::Error> {
        Ok(Self { text: RawValue::from_string(text)?.into(), has_plain_numbers: true })
    }

    /// The canonical JSON text.
    pub fn as_str(&self) -> &str {
        self.text.get()
    }

    /// Whether the object has no fields. A request with it is the same as one without metadata.
    fn is_empty(&self) -> bool {
        self.as_str() == EMPTY
    }

    /// What version 0.2 stored for this metadata, where it rounded a number. `None` if the rounded text is also what a
    /// request of today may have as its own, because then nothing distinguishes the two.
    fn rounded(&self) -> Option<String> {
        let rounded = rounded(&self.text).ok()?;
        (!rounded.has_plain_numbers).then_some(rounded.text)
    }
}

/// The canonical form of an object without fields.
const EMPTY: &str = "{}";

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Metadata {}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Map::<String, Value>::json_schema(generator);
        schema.insert(
            "description".to_owned(),
            "A JSON object that a client attaches to a reservation and that its events carry. It is kept in canonical \
             form (names sorted, no white space), in which every value is the one that the client sent."
                .into(),
        );
        schema
    }
}

/// A digest of the request of a reserve command. Two requests with one idempotency key are the same request if and
/// only if their fingerprints are equal. The digest is taken over the parsed command, so white space, the order of
/// items, a default that was written out, and metadata without fields make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

/// The tag of metadata whose numbers version 0.2 kept exactly, and the tag of all other metadata. Version 0.2 had only
/// the first, so a rounded number has never the fingerprint of a number that was sent as it is.
const PLAIN_METADATA: u8 = 5;
const EXACT_METADATA: u8 = 6;

impl Fingerprint {
    /// The fingerprint of a parsed command: the first 128 bits of BLAKE3 over an unambiguous encoding.
    pub fn of(items: &[Item], ttl: Ttl, holder: Option<&Holder>, metadata: Option<&Metadata>) -> Self {
        let metadata = metadata.filter(|metadata| !metadata.is_empty()).map(|metadata| {
            (if metadata.has_plain_numbers { PLAIN_METADATA } else { EXACT_METADATA }, metadata.as_str())
        });
        Self::digest(items, ttl, holder, metadata)
    }

    /// The fingerprint that version 0.2 gave to the same command, if it was another one: it rounded numbers, and
    /// distinguished `{}` from no metadata. A retry of a request that it served must find its reservation.
    pub(crate) fn of_version_0_2(
        items: &[Item],
        ttl: Ttl,
        holder: Option<&Holder>,
        metadata: Option<&Metadata>,
    ) -> Option<Self> {
        let text = match metadata {
            Some(metadata) if !metadata.has_plain_numbers => metadata.rounded()?,
            Some(metadata) if !metadata.is_empty() => return None,
            _ => EMPTY.to_owned(),
        };
        Some(Self::digest(items, ttl, holder, Some((PLAIN_METADATA, &text))))
    }

    fn digest(items: &[Item], ttl: Ttl, holder: Option<&Holder>, metadata: Option<(u8, &str)>) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for item in items {
            part(1, item.resource_id.as_str().as_bytes());
            part(2, &item.quantity.units().to_le_bytes());
        }
        part(3, &ttl.seconds().to_le_bytes());
        if let Some(holder) = holder {
            part(4, holder.as_str().as_bytes());
        }
        if let Some((tag, text)) = metadata {
            part(tag, text.as_bytes());
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(digest)
    }

    /// Wraps a fingerprint that was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes to store.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::{Item, Quantity, ResourceId};

    fn metadata(text: &str) -> Result<Metadata, Violation> {
        let json = RawValue::from_string(text.to_owned()).expect("JSON");
        Metadata::new(&json, &Limits { metadata_bytes_max: 64 * 1024, ..Limits::default() })
    }

    fn digest(
        metadata: Option<&Metadata>,
        of: impl FnOnce(&[Item], Ttl, Option<&Metadata>) -> Fingerprint,
    ) -> Fingerprint {
        let item = Item {
            resource_id: ResourceId::new("resourceId", "seat").expect("valid"),
            quantity: Quantity::new("quantity", 1).expect("valid"),
        };
        of(&[item], Ttl::new("ttl", 300).expect("valid"), metadata)
    }

    fn fingerprint(metadata: Option<&Metadata>) -> Fingerprint {
        digest(metadata, |items, ttl, metadata| Fingerprint::of(items, ttl, None, metadata))
    }

    /// The text and the fingerprint that version 0.2 stored for metadata. `None`: it refused it.
    fn of_version_0_2(text: &str) -> Option<(String, Fingerprint)> {
        let stored = rounded(&RawValue::from_string(text.to_owned()).ok()?).ok()?.text;
        let of = |items: &[Item], ttl, _: Option<&Metadata>| {
            Fingerprint::digest(items, ttl, None, Some((PLAIN_METADATA, &stored)))
        };
        let fingerprint = digest(None, of);
        Some((stored, fingerprint))
    }

    /// Whether a retry of the request finds a reservation with this fingerprint.
    fn finds(text: &str, stored: Fingerprint) -> bool {
        let metadata = metadata(text).expect("valid");
        let former = digest(Some(&metadata), |items, ttl, metadata| {
            Fingerprint::of_version_0_2(items, ttl, None, metadata).unwrap_or(fingerprint(metadata))
        });
        fingerprint(Some(&metadata)) == stored || former == stored
    }

    /// Numbers that are all different, as they are written, and with the text in which they come back.
    const NUMBERS: &[(&str, &str)] = &[
        ("0", "0"),
        ("-0", "-0"),
        ("0.0", "0.0"),
        ("-0.0", "-0.0"),
        ("1", "1"),
        ("1.0", "1.0"),
        ("-1", "-1"),
        ("1.10", "1.1"),
        ("1e2", "100.0"),
        ("1E+3", "1000.0"),
        ("44442.0", "44442.0"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.3", "0.3"),
        ("0.1000000000000000055", "0.1000000000000000055"),
        ("0.1", "0.1"),
        ("117.63331139400017", "117.63331139400017"),
        ("117.63331139400016", "117.63331139400016"),
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993.0"),
        ("9007199254740992.0", "9007199254740992.0"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("1.8446744073709552e+19", "1.8446744073709552e+19"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("100000000000000000000", "100000000000000000000"),
        ("1e400", "1e400"),
        ("1e401", "1e401"),
        ("-1e400", "-1e400"),
        ("1e-400", "1e-400"),
        ("1e-401", "1e-401"),
        ("5e-324", "5e-324"),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("1e-99999999999999999999", "1e-99999999999999999999"),
        ("3.141592653589793238462643383279502884197", "3.141592653589793238462643383279502884197"),
    ];

    #[test]
    fn numbers_keep_their_value_and_different_ones_have_different_fingerprints() {
        let mut seen = HashMap::new();
        for (number, kept) in NUMBERS {
            let parsed =
                metadata(&format!(r#"{{ "n" : {number} , "deep": [{{"m":[{number}]}}] }}"#)).expect("valid");
            assert_eq!(parsed.as_str(), format!(r#"{{"deep":[{{"m":[{kept}]}}],"n":{kept}}}"#));
            let earlier = seen.insert(*fingerprint(Some(&parsed)).bytes(), *number);
            assert_eq!(earlier, None, "{number} has the fingerprint of another number");
            let stored = Metadata::from_canonical(parsed.as_str().to_owned()).expect("JSON");
            assert_eq!(serde_json::to_string(&stored).expect("JSON"), parsed.as_str());
        }
        for (number, _) in NUMBERS {
            for (other, kept) in NUMBERS.iter().filter(|(other, _)| other != number) {
                let made = metadata(&format!(r#"{{"n":{kept}}}"#)).expect("valid");
                let retry = format!(r#"{{"n":{number}}}"#);
                assert!(
                    !finds(&retry, fingerprint(Some(&made))),
                    "{number} finds the reservation of {other}"
                );
            }
        }
        let long = format!("{}.{}", "9".repeat(1_000), "1".repeat(1_000));
        assert_eq!(
            metadata(&format!(r#"{{"n":{long}}}"#)).expect("valid").as_str(),
            format!(r#"{{"n":{long}}}"#)
        );
    }

    #[test]
    fn a_retry_finds_the_reservation_that_version_0_2_made() {
        for (number, kept) in NUMBERS {
            let text = format!(r#"{{"n":{number},"s":"\u00fc"}}"#);
            let Some((stored, fingerprint_then)) = of_version_0_2(&text) else { continue };
            let now = metadata(&text).expect("valid");
            if now.has_plain_numbers {
                assert_eq!((now.as_str(), fingerprint(Some(&now))), (&*stored, fingerprint_then), "{number}");
            }
            // Rounded to a decimal that a client may send as it is, a number cannot be recognised.
            let lost = [
                "0.1000000000000000055",
                "1e-400",
                "1e-401",
                "1e-99999999999999999999",
                "100000000000000000000",
            ];
            let lost = lost.contains(number) || (*kept == "-0");
            assert_eq!(finds(&text, fingerprint_then), !lost, "{number}, stored as {stored}");
        }
        let (_, empty) = of_version_0_2("{}").expect("valid");
        assert!(finds("{}", empty), "metadata without fields");
    }

    #[test]
    fn metadata_without_fields_is_the_same_request_as_none() {
        let empty = metadata(" {\n} ".trim()).expect("valid");
        assert_eq!((empty.as_str(), fingerprint(Some(&empty))), ("{}", fingerprint(None)));
        assert_ne!(fingerprint(Some(&metadata(r#"{"a":{}}"#).expect("valid"))), fingerprint(None));
    }

    #[test]
    fn text_is_kept_and_names_are_sorted() {
        for (given, kept) in [
            (r#"{"b":1,"a":2,"ab":3,"A":4,"":5,"\u0061a":6}"#, r#"{"":5,"A":4,"a":2,"aa":6,"ab":3,"b":1}"#),
            (
                r#"{"s":"\u0000\u001f\"\\\/\b\f\n\r\t\u007f"}"#,
                "{\"s\":\"\\u0000\\u001f\\\"\\\\/\\b\\f\\n\\r\\t\u{7f}\"}",
            ),
            (r#"{"s":"\ud83c\udfab"}"#, "{\"s\":\"\u{1f3ab}\"}"),
            ("{\"s\":\"\u{fffd}\u{feff}e\u{301}\u{2028}\"}", "{\"s\":\"\u{fffd}\u{feff}e\u{301}\u{2028}\"}"),
            (
                r#"{"a":[],"b":{},"c":[[],{}],"d":null,"e":true,"f":false}"#,
                r#"{"a":[],"b":{},"c":[[],{}],"d":null,"e":true,"f":false}"#,
            ),
            (r#"{"a":"","b":"\\","c":"\"","d":"x\\"}"#, r#"{"a":"","b":"\\","c":"\"","d":"x\\"}"#),
            ("{\t\"a\" : [ 1 ,\r\n2 ] }", r#"{"a":[1,2]}"#),
        ] {
            assert_eq!(metadata(given).expect("valid").as_str(), kept, "{given}");
            assert_eq!(of_version_0_2(given).expect("valid").0, kept, "{given}");
            // By the code of version 0.2, which parsed all of it with `serde_json`. Its maps are sorted, unless a crate
            // of the build has them otherwise.
            let parsed: BTreeMap<String, Value> = serde_json::from_str(given).expect("JSON");
            assert_eq!(serde_json::to_string(&parsed).expect("JSON"), kept, "{given}");
        }
    }

    #[test]
    fn json_that_cannot_be_kept_is_refused() {
        let deep =
            |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(metadata(&deep(126)).is_ok());
        for (text, problem) in [
            (r#"{"a":1,"a":1}"#.to_owned(), "the name \"a\" twice"),
            (r#"{"a":1,"b":[{"c":1,"\u0063":2}]}"#.to_owned(), "the name \"c\" twice"),
            (r#"{"a":"\ud800"}"#.to_owned(), "half of a surrogate pair"),
            (r#"{"a":"\udc00x"}"#.to_owned(), "half of a surrogate pair"),
            (r#"{"\ud800\ud800":1}"#.to_owned(), "half of a surrogate pair"),
            (deep(127), "at most 126 levels"),
            (deep(30_000), "at most 126 levels"),
            ("[1]".to_owned(), "a JSON object"),
            ("null".to_owned(), "a JSON object"),
            ("1".to_owned(), "a JSON object"),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024)), "at most 65536 bytes"),
        ] {
            let violation = metadata(&text).expect_err(&text);
            assert!(violation.field == "metadata" && violation.problem.contains(problem), "{violation}");
        }
    }
}
