//! Renders a JSON Schema of the document as text: the type of a value, its limits, the fields of an object.

use serde_json::Value;

/// A table of an object's fields, required ones first. Empty for a schema without fields.
pub(super) fn fields(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    let mut fields = properties(document, schema);
    if fields.is_empty() {
        return String::new();
    }
    fields.sort_by(|a, b| (!a.required, &a.name).cmp(&(!b.required, &b.name)));
    let mut table = "| field | type | required | meaning |\n|---|---|---|---|\n".to_owned();
    for field in fields {
        let required = if field.required { "yes" } else { "" };
        let kind = kind(&field.schema);
        table += &format!("| `{}` | {kind} | {required} | {} |\n", field.name, meaning(&field.schema));
    }
    table
}

struct Field {
    name: String,
    required: bool,
    schema: Value,
}

/// The fields of an object, also of those that it is composed of (`allOf`).
fn properties(document: &Value, schema: &Value) -> Vec<Field> {
    let is_required = |name: &str| list(&schema["required"]).iter().any(|required| required == name);
    let own = schema["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field> = own
        .map(|(name, schema)| Field {
            name: name.clone(),
            required: is_required(name),
            schema: schema.clone(),
        })
        .collect();
    for part in list(&schema["allOf"]) {
        fields.extend(properties(document, resolved(document, part)));
    }
    fields
}

/// The schema that a `$ref` points to, or the schema itself.
pub(super) fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

/// The type of a value, such as `integer`, `string[]`, or a link to an object of the page.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(name) = referenced(schema) {
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", plain(value))).collect();
        return values.join(", ");
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema[choice].as_array() {
            return schemas.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::Array(types) => {
            types.iter().map(|one| one_kind(schema, &plain(one))).collect::<Vec<_>>().join(" or ")
        }
        Value::String(one) => one_kind(schema, one),
        _ => "any JSON".to_owned(),
    }
}

fn one_kind(schema: &Value, name: &str) -> String {
    match name {
        "array" => format!("{}[]", kind(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time (RFC 3339)".to_owned(),
        "string" if schema["format"].is_string() => plain(&schema["format"]),
        name => name.to_owned(),
    }
}

/// The name of the object that a schema refers to.
pub(super) fn referenced(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// The description of a value, followed by its limits and its default, as one cell of a table.
pub(super) fn meaning(schema: &Value) -> String {
    let mut parts = Vec::new();
    let description = cell(schema["description"].as_str().unwrap_or_default());
    if !description.is_empty() {
        parts.push(description.trim_end_matches('.').to_owned());
    }
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ] {
        match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => {}
            (least, Value::Null) => parts.push(format!("at least {least}{unit}")),
            (Value::Null, most) => parts.push(format!("at most {most}{unit}")),
            (least, most) => parts.push(format!("{least} to {most}{unit}")),
        }
    }
    if !schema["x-max-bytes"].is_null() {
        parts.push(format!("at most {} bytes", schema["x-max-bytes"]));
    }
    if !schema["default"].is_null() {
        parts.push(format!("default `{}`", plain(&schema["default"])));
    }
    parts.join("; ")
}

/// Text on one line, with the character that separates the cells of a table escaped.
pub(super) fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A JSON value as text; a string without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
