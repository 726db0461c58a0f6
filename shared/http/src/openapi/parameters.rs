//! The parameters: their bounds, as components that operations share.

use serde_json::{Map, Value, json};

use super::{list_of, operations_of, schemas};

/// A key in quotes, with escapes, or bare: no quote at its beginning and no space at its ends.
const KEY_PATTERN: &str = r#"^("([ !#-\[\]-~]|\\["\\])+"|[!#-~]([ -~]*[!-~])?)$"#;

/// Replaces each parameter by a reference to its component.
pub(super) fn complete(document: &mut Value) {
    let mut components = Map::new();
    for (path, _, operation) in operations_of(document) {
        for parameter in list_of(operation, "parameters") {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            let is_required = parameter["required"] == true;
            let Some((component, schema)) = described(path, &name, is_required) else { continue };
            parameter["schema"] = schema;
            if component == "Limit" {
                parameter["description"] = "The number of records on the page, by default 100".into();
            }
            if let Some(example) = parameter["schema"]["examples"].get(0).cloned() {
                parameter["example"] = example;
                parameter["schema"].as_object_mut().map(|schema| schema.remove("examples"));
            }
            let earlier = components.insert(component.to_owned(), parameter.clone());
            debug_assert!(
                earlier.is_none_or(|earlier| earlier["schema"] == parameter["schema"]),
                "{component} is two parameters"
            );
            *parameter = json!({"$ref": format!("#/components/parameters/{component}")});
        }
    }
    document["components"]["parameters"] = components.into();
}

/// The component of a parameter and the schema of its values; `None` for one that only one operation has.
fn described(path: &str, name: &str, is_required: bool) -> Option<(&'static str, Value)> {
    let uuid = || json!({"type": "string", "format": "uuid"});
    let delivery = || json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX});
    Some(match name {
        "Idempotency-Key" => (
            if is_required { "IdempotencyKey" } else { "OptionalIdempotencyKey" },
            json!({
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "pattern": KEY_PATTERN,
                "examples": ["01890a5d-ac96-774b-bcce-b302099a8057"],
            }),
        ),
        "limit" => ("Limit", json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 1000})),
        "token" => ("Token", uuid()),
        "id" if path.contains("/webhooks/") => ("WebhookId", uuid()),
        "id" => ("ResourceId", schemas::resource_id()),
        "deliveryId" => ("DeliveryId", delivery()),
        "after" if path.ends_with("/deliveries") => ("AfterDelivery", delivery()),
        "after" if path.ends_with("/webhooks") => ("AfterWebhook", uuid()),
        "after" if path.ends_with("/resources") => ("AfterResource", schemas::resource_id()),
        "status" => ("DeliveryStatus", json!({"$ref": "#/components/schemas/DeliveryStatus"})),
        "dryRun" => ("DryRun", json!({"type": "boolean"})),
        _ => return None,
    })
}
