//! The only change of a schema that v1 allows: it gains optional fields.
//!
//! The check works in both directions, because events stay in the log: consumers written for the frozen schema read
//! today's events, and consumers written for today's schema read old events. So a known field keeps exactly its values
//! (wider values break the former, narrower ones the latter), a required field stays required, and a new field is never
//! required. Titles and descriptions may change.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Keywords for readers, which have no effect on validation.
const ANNOTATIONS: [&str; 4] = ["title", "description", "examples", "$comment"];

/// The differences between `frozen` and `current` other than added optional fields. The schemas must have no
/// references.
pub(super) fn breaks(frozen: &Value, current: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", frozen, current, &mut found);
    found
}

fn compare(path: &str, frozen: &Value, current: &Value, found: &mut Vec<String>) {
    let (Some(before), Some(now)) = (frozen.as_object(), current.as_object()) else {
        if frozen != current {
            found.push(format!("{path}: was {frozen}, is {current}"));
        }
        return;
    };
    let keywords: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for keyword in keywords {
        let (before, now) = (&frozen[keyword.as_str()], &current[keyword.as_str()]);
        match keyword.as_str() {
            annotation if ANNOTATIONS.contains(&annotation) => {}
            "properties" => {
                for (name, property) in before.as_object().into_iter().flatten() {
                    match now.get(name) {
                        Some(now) => compare(&format!("{path}.{name}"), property, now, found),
                        None => found.push(format!("{path}.{name}: was removed")),
                    }
                }
            }
            "items" => compare(&format!("{path}[]"), before, now, found),
            "required" => {
                let (before, now) = (set(before), set(now));
                found.extend(before.difference(&now).map(|name| format!("{path}.{name}: may be absent")));
                found.extend(now.difference(&before).map(|name| format!("{path}.{name}: is newly required")));
            }
            "enum" if set(before) == set(now) => {}
            _ if before == now => {}
            _ => found.push(format!("{path}: {keyword} was {before}, is {now}")),
        }
    }
}

fn set(values: &Value) -> BTreeSet<String> {
    values
        .as_array()
        .into_iter()
        .flatten()
        .map(|value| value.as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn additive_accepts_new_fields_and_new_descriptions() {
    let frozen = &bespeak::envelope::schemas()["Reservation"];
    let mut grown = frozen.clone();
    grown["properties"]["channel"] = json!({"type": "string"});
    grown["properties"]["items"]["items"]["properties"]["seat"] = json!({"type": ["string", "null"]});
    grown["description"] = "Other words.".into();
    grown["properties"]["status"]["description"] = "Other words.".into();
    let found = breaks(frozen, &grown);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn additive_rejects_any_other_change() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 12] = [
        (".holder: was removed", |schema| remove(&mut schema["properties"], "holder")),
        (".items[].quantity: was removed", |schema| {
            remove(&mut schema["properties"]["items"]["items"]["properties"], "quantity");
        }),
        (r#".version: type was "integer", is "number""#, |schema| {
            schema["properties"]["version"]["type"] = "number".into();
        }),
        (r#".token: type was "string", is ["string","null"]"#, |schema| {
            schema["properties"]["token"]["type"] = json!(["string", "null"]);
        }),
        (r#".token: format was "uuid", is null"#, |schema| {
            remove(&mut schema["properties"]["token"], "format");
        }),
        (".version: minimum was 1, is 0", |schema| schema["properties"]["version"]["minimum"] = 0.into()),
        (".holder: maxLength was 128, is 64", |schema| {
            schema["properties"]["holder"]["maxLength"] = 64.into();
        }),
        (".status: enum was", |schema| {
            schema["properties"]["status"]["enum"].as_array_mut().expect("names").push("LOST".into());
        }),
        (".status: enum was", |schema| {
            schema["properties"]["status"]["enum"].as_array_mut().expect("names").pop();
        }),
        (".token: may be absent", |schema| {
            schema["required"].as_array_mut().expect("names").retain(|name| name != "token");
        }),
        (".holder: is newly required", |schema| {
            schema["required"].as_array_mut().expect("names").push("holder".into());
        }),
        (": additionalProperties was null, is false", |schema| schema["additionalProperties"] = false.into()),
    ];
    let frozen = &bespeak::envelope::schemas()["Reservation"];
    for (expected, change) in changes {
        let mut changed = frozen.clone();
        change(&mut changed);
        let found = breaks(frozen, &changed);
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected} is not in {found:?}");
    }
}

fn remove(object: &mut Value, name: &str) {
    object.as_object_mut().expect("an object").remove(name).expect("it is there");
}
