//! The problem types as JSON Schemas: one object for each row of the table, and their union, which `type` tells apart.

use serde_json::{Map, Value, json};

use super::{details::Members, kind::Kind};

/// The name of the union of all problem types.
const UNION: &str = "Problem";

/// The schema of every problem type and of their union, by name.
pub(crate) fn schemas() -> Map<String, Value> {
    let members: Map<String, Value> = Members::schemas().into_iter().collect();
    let mut schemas: Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.schema_name().to_owned(), object(*kind, &members))).collect();
    let mut union = union(Kind::ALL);
    union["description"] =
        "Problem details (RFC 9457): why a request had no effect. `type` names the problem type, \
        and later versions can have more types: treat an unknown type by its `status`."
            .into();
    schemas.insert(UNION.to_owned(), union);
    schemas
}

/// A reference to the only kind, or the union of several.
pub(super) fn union(kinds: &[Kind]) -> Value {
    let reference = |kind: &Kind| format!("#/components/schemas/{}", kind.schema_name());
    if let [only] = kinds {
        return json!({"$ref": reference(only)});
    }
    let choices: Vec<Value> = kinds.iter().map(|kind| json!({"$ref": reference(kind)})).collect();
    let mapping: Map<String, Value> =
        kinds.iter().map(|kind| (kind.slug().to_owned(), reference(kind).into())).collect();
    json!({"oneOf": choices, "discriminator": {"propertyName": "type", "mapping": mapping}})
}

fn object(kind: Kind, members: &Map<String, Value>) -> Value {
    let mut properties = json!({
        "type": {"type": "string", "const": kind.slug(), "description": "The stable name of the problem type."},
        "title": {"type": "string", "description": "The problem type, for people.", "examples": [kind.title()]},
        "status": {
            "type": "integer",
            "format": "int32",
            "const": kind.status().as_u16(),
            "description": "The HTTP status.",
        },
        "detail": {
            "type": "string",
            "description": "What was wrong with this request, and what would be right.",
        },
    });
    for name in kind.required_members().iter().chain(kind.optional_members()) {
        properties[*name] = members.get(*name).cloned().unwrap_or_default();
    }
    let required: Vec<&str> = ["type", "title", "status", "detail"]
        .into_iter()
        .chain(kind.required_members().iter().copied())
        .collect();
    json!({
        "type": "object",
        "description": kind.meaning(),
        "required": required,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use bespeak::engine::Timestamp;

    use super::*;
    use crate::problem::Problem;

    /// Each problem type as it is answered: with the members that it always has, and with all that it may have.
    #[test]
    fn each_problem_is_valid_by_its_schema_and_by_no_other() {
        let contract = crate::contract();
        let validator = |name: &str| {
            let mut schema = contract.clone();
            schema["$ref"] = format!("#/components/schemas/{name}").into();
            jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
        };
        let union = validator(UNION);
        let mut sample: Value = [
            ("field", json!("quantity")),
            ("resourceId", json!("room-101")),
            ("expiredAt", json!(Timestamp::UNIX_EPOCH)),
            ("nextReleaseAt", json!(Timestamp::UNIX_EPOCH)),
            ("reservationStatus", json!("EXPIRED")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let examples =
            contract.pointer("/paths/~1api~1v1~1reserve/post/responses/200/content/application~1json");
        sample["reservation"] = examples.unwrap()["examples"]["held"]["value"].clone();
        for kind in Kind::ALL {
            let (_, plain) = Problem::new(*kind, "a detail").written_without_members();
            let validator = validator(kind.schema_name());
            for optional in [&[][..], kind.optional_members()] {
                let mut problem = plain.clone();
                for name in kind.required_members().iter().chain(optional) {
                    problem[*name] = sample.get(*name).cloned().unwrap_or_else(|| json!(1));
                }
                let errors: Vec<String> =
                    validator.iter_errors(&problem).map(|error| error.to_string()).collect();
                assert!(errors.is_empty() && union.is_valid(&problem), "{problem}: {errors:?}");
                for name in kind.required_members() {
                    let mut incomplete = problem.clone();
                    incomplete.as_object_mut().unwrap().remove(*name);
                    assert!(!union.is_valid(&incomplete), "{kind:?} needs {name}");
                }
            }
        }
    }
}
