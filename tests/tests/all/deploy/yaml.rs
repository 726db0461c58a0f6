//! Reads YAML as JSON, with CloudFormation's short forms expanded to the long ones.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// The documents of a file.
pub(crate) fn documents(path: &str) -> Vec<Value> {
    let text = super::text(path);
    let parsed = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    parsed.iter().map(to_json).collect()
}

fn to_json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => json!(value),
            Scalar::Integer(value) => json!(value),
            Scalar::FloatingPoint(value) => json!(value.into_inner()),
            Scalar::String(value) => json!(value),
        },
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(fields) => {
            let fields = fields.iter().map(|(name, value)| (key(name), to_json(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Yaml::Tagged(tag, inner) => long_form(&tag.suffix, to_json(inner)),
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            panic!("neither CloudFormation nor this test supports {node:?}")
        }
    }
}

/// A key as text, even if it looks like a number.
fn key(node: &Yaml<'_>) -> String {
    match to_json(node) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `!Sub x` is `{"Fn::Sub": x}`.
fn long_form(tag: &str, inner: Value) -> Value {
    match tag {
        "Ref" | "Condition" => json!({ tag: inner }),
        "GetAtt" => {
            let path = inner.as_str().expect("!GetAtt of a string");
            let (resource, attribute) = path.split_once('.').expect("resource and attribute");
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        _ => json!({ format!("Fn::{tag}"): inner }),
    }
}
