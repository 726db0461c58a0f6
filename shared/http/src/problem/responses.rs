//! Problems in the OpenAPI document: the error responses of an operation, derived from the table of problem types.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{
    Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Type, header::Header,
    response::Response,
};

use super::kind::Kind;

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

/// The responses of these problems, one for each status. The text beside a kind is added to its meaning.
pub(crate) fn responses(problems: &[(Kind, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses: BTreeMap<StatusCode, Vec<(Kind, &str)>> = BTreeMap::new();
    for (kind, note) in problems {
        statuses.entry(kind.status()).or_default().push((*kind, note));
    }
    let statuses = statuses.into_iter();
    statuses.map(|(status, problems)| (status.as_str().to_owned(), response(&problems).into())).collect()
}

fn response(problems: &[(Kind, &str)]) -> Response {
    let described = |(kind, note): &(Kind, &str)| {
        let space = if note.is_empty() { "" } else { " " };
        format!("`{}`: {}{space}{note}", kind.slug(), kind.meaning())
    };
    let description = match problems {
        [only] => described(only),
        several => several.iter().map(|one| format!("- {}", described(one))).collect::<Vec<_>>().join("\n"),
    };
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))));
    if problems.iter().any(|(kind, _)| kind.has_retry_after()) {
        return response.header("Retry-After", retry_after()).build();
    }
    response.build()
}

fn retry_after() -> Header {
    HeaderBuilder::new()
        .description(Some("The number of seconds to wait before the next attempt."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
        .build()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_of_one_status_share_a_response() {
        let responses = responses(&[
            (Kind::AlreadyReleased, ""),
            (Kind::HoldExpired, ""),
            (Kind::OutOfStock, "Try another seat."),
        ]);
        let document = json!(responses);
        assert_eq!(
            document.as_object().map(|statuses| statuses.keys().collect::<Vec<_>>()),
            Some(vec![&"409".to_owned(), &"410".to_owned()])
        );
        let conflict = document["409"]["description"].as_str().unwrap_or_default();
        assert!(conflict.starts_with("- `already-released`: ") && conflict.contains("\n- `out-of-stock`: "));
        assert!(conflict.ends_with("Try another seat."), "{conflict}");
        assert_eq!(document["409"]["headers"]["Retry-After"]["schema"]["type"], "integer");
        assert!(document["410"]["headers"].is_null());
        let schema = &document["410"]["content"]["application/problem+json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Problem");
    }
}
