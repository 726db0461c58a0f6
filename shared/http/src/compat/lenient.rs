//! Removes the fields that a request body has and the API does not know.
//!
//! The types of the API refuse unknown fields. A body that was refused for one is parsed again without it, so a body
//! that is right costs nothing more. The other values keep their text, so that no number changes.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

/// How many unknown fields are removed from one body. A body with more is refused.
const FIELDS_MAX: usize = 64;

/// The body without the fields that `T` does not know; the same body if there is none, or if it is no JSON.
pub(crate) fn without_unknown_fields<T: DeserializeOwned>(mut body: Bytes) -> Bytes {
    for _ in 0..FIELDS_MAX {
        let Some(path) = unknown_field::<T>(&body) else { break };
        let Some(rest) = std::str::from_utf8(&body).ok().and_then(|text| without(text, &path)) else { break };
        body = rest.into();
    }
    body
}

/// The path of the unknown field that `T` refuses first.
fn unknown_field<T: DeserializeOwned>(body: &[u8]) -> Option<Vec<Segment>> {
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let error = serde_path_to_error::deserialize::<_, T>(deserializer).err()?;
    let is_unknown = error.inner().to_string().starts_with("unknown field `");
    // The path ends with the field itself.
    is_unknown.then(|| error.path().iter().cloned().collect())
}

/// A JSON text without the value at a path; `None` if there is none.
fn without(text: &str, path: &[Segment]) -> Option<String> {
    match path {
        [Segment::Map { key }, rest @ ..] => {
            let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
            let value = fields.remove(key)?;
            if !rest.is_empty() {
                let value = RawValue::from_string(without(value.get(), rest)?).ok()?;
                fields.insert(key.clone(), value);
            }
            serde_json::to_string(&fields).ok()
        }
        [Segment::Seq { index }, rest @ ..] => {
            let mut values: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
            let value = values.get_mut(*index)?;
            *value = RawValue::from_string(without(value.get(), rest)?).ok()?;
            serde_json::to_string(&values).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default)]
        items: Vec<Inner>,
        raw: Option<Box<RawValue>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        id: u32,
    }

    fn cleaned(body: &str) -> String {
        String::from_utf8(without_unknown_fields::<Outer>(body.to_owned().into()).into()).unwrap()
    }

    #[test]
    fn unknown_fields_are_removed_at_every_depth_and_no_number_changes() {
        let raw = r#"{"x":117.63331139400017,"n":1e400}"#;
        let body = r#"{"x":1,"name":"a","items":[{"id":1},{"id":2,"y":[{}]}],"raw":RAW}"#.replace("RAW", raw);
        let seen = cleaned(&body);
        assert!(seen.contains("117.63331139400017") && seen.contains("1e400"), "{seen}");
        let seen: Outer = serde_json::from_str(&seen).unwrap();
        assert_eq!((seen.name.as_str(), seen.items.len()), ("a", 2));
        assert_eq!(
            seen.raw.unwrap().get(),
            r#"{"x":117.63331139400017,"n":1e400}"#,
            "metadata is the client's own"
        );
    }

    #[test]
    fn any_other_body_stays_as_it_is() {
        for body in [r#"{"name":"a"}"#, r#"{"name":1,"x":1}"#, "{", "[]", r#"{"items":[{"id":"x"}]}"#, ""] {
            assert_eq!(cleaned(body), body);
        }
        let many: serde_json::Map<_, _> = (0..=FIELDS_MAX).map(|n| (format!("x{n}"), json!(n))).collect();
        assert!(cleaned(&json!(many).to_string()).contains(':'), "the work is bounded");
    }
}
