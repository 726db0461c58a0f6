//! Problems in the OpenAPI document: the error responses of an operation, derived from the table of problem types.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, ResponseBuilder, extensions::ExtensionsBuilder, response::Response};

use super::{kind::Kind, schema};

/// Declares a type that stands for the problems of an operation in `#[utoipa::path(responses(..))]`.
///
/// `problems!(CommitProblems: ReservationNotFound, HoldExpired)`. A kind may have a note in parentheses, which follows
/// the kind's meaning in the description.
macro_rules! problems {
    ($name:ident: $($kind:ident $(($note:literal))?),+ $(,)?) => {
        pub(crate) enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::problem::responses(&[$(($crate::problem::Kind::$kind, concat!($($note)?))),+])
            }
        }
    };
}

pub(crate) use problems;

/// The extension in which a response lists its problems, as pairs of slug and note, until [`complete`] describes them.
const LISTED: &str = "x-problems";

/// The responses of these problems, one for each status. The text beside a kind is added to its meaning.
pub(crate) fn responses(problems: &[(Kind, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (kind, note) in problems {
        statuses.entry(kind.status().as_str().to_owned()).or_default().push((kind.slug(), note));
    }
    let statuses = statuses.into_iter();
    let listed = |problems| ExtensionsBuilder::new().add(LISTED, json!(problems)).build();
    statuses
        .map(|(status, problems)| {
            (status, ResponseBuilder::new().extensions(Some(listed(problems))).build().into())
        })
        .collect()
}

/// Describes the problems among the responses of one operation: those that it lists itself, and `common`.
pub(crate) fn complete(responses: &mut Map<String, Value>, common: &[Kind]) {
    for kind in common {
        let response = responses.entry(kind.status().as_str()).or_insert_with(|| json!({LISTED: []}));
        let Some(listed) = response[LISTED].as_array_mut() else { continue };
        if listed.iter().all(|problem| problem[0] != kind.slug()) {
            listed.push(json!([kind.slug(), ""]));
        }
    }
    for response in responses.values_mut() {
        let Some(listed) = response.as_object_mut().and_then(|response| response.remove(LISTED)) else {
            continue;
        };
        let listed: Vec<(Kind, &str)> = listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|problem| Some((Kind::of_slug(problem[0].as_str()?)?, problem[1].as_str()?)))
            .collect();
        *response = described(&listed);
    }
}

/// The response with these problems, which have one status.
fn described(problems: &[(Kind, &str)]) -> Value {
    let line = |(kind, note): &(Kind, &str)| {
        let space = if note.is_empty() { "" } else { " " };
        format!("`{}`: {}{space}{note}", kind.slug(), kind.meaning())
    };
    let description = match problems {
        [only] => line(only),
        several => several.iter().map(|one| format!("- {}", line(one))).collect::<Vec<_>>().join("\n"),
    };
    let kinds: Vec<Kind> = problems.iter().map(|(kind, _)| *kind).collect();
    let mut response = json!({
        "description": description,
        "content": {"application/problem+json": {"schema": schema::union(&kinds)}},
    });
    if kinds.iter().any(|kind| kind.has_retry_after()) {
        response["headers"]["Retry-After"] = json!({
            "description": "The number of seconds to wait before the next attempt.",
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
        });
    }
    if kinds.contains(&Kind::MethodNotAllowed) {
        response["headers"]["Allow"] =
            json!({"description": "The methods that the path accepts.", "schema": {"type": "string"}});
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_one_status_share_a_response() {
        let listed = responses(&[
            (Kind::AlreadyReleased, ""),
            (Kind::HoldExpired, ""),
            (Kind::OutOfStock, "Try another seat."),
        ]);
        let mut responses = json!(listed).as_object().cloned().unwrap_or_default();
        complete(&mut responses, &[Kind::HoldExpired, Kind::InternalError]);
        let document = json!(responses);
        assert_eq!(
            document.as_object().map(|statuses| statuses.keys().map(String::as_str).collect::<Vec<_>>()),
            Some(vec!["409", "410", "500"])
        );
        let conflict = document["409"]["description"].as_str().unwrap_or_default();
        assert!(conflict.starts_with("- `already-released`: ") && conflict.contains("\n- `out-of-stock`: "));
        assert!(conflict.ends_with("Try another seat."), "{conflict}");
        assert_eq!(document["409"]["headers"]["Retry-After"]["schema"]["type"], "integer");
        assert!(document["410"]["headers"].is_null());
        let schema = |status: &str| &document[status]["content"]["application/problem+json"]["schema"];
        assert_eq!(schema("410")["$ref"], "#/components/schemas/HoldExpiredProblem");
        assert_eq!(schema("409")["oneOf"].as_array().map(Vec::len), Some(2));
        let mapping = &schema("409")["discriminator"]["mapping"];
        assert_eq!(mapping["out-of-stock"], "#/components/schemas/OutOfStockProblem");
    }
}
