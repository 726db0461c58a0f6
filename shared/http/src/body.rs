//! Reads the body of a request: checks its media type, size and time, and parses its JSON.
//!
//! A value that is not valid becomes a problem with the path of its field.

use std::{fmt, marker::PhantomData};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{compat, problem::Problem, state::Api};

/// A JSON body. `T` itself must deny unknown fields.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !media_type(request.headers()).is_some_and(|given| is_json(&given)) {
            return Err(Problem::unsupported_media_type("application/json"));
        }
        let bytes = read(request, api.http.body_bytes_max, api).await?;
        let parsed = match parse::<Object<T>>(&bytes) {
            Err(_) if api.compat.is_some() => parse(&compat::without_unknown_fields::<Object<T>>(bytes)),
            parsed => parsed,
        };
        parsed.map(|Object(value)| Self(value))
    }
}

/// A JSON body that may be missing: then it is the default, as if it were `{}`.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if media_type(request.headers()).is_some_and(|given| is_json(&given)) {
            return JsonBody::from_request(request, api).await.map(|JsonBody(value)| Self(value));
        }
        let bytes = read(request, api.http.body_bytes_max, api).await?;
        if bytes.is_empty() {
            Ok(Self(T::default()))
        } else {
            Err(Problem::unsupported_media_type("application/json"))
        }
    }
}

/// A JSON object. On its own, a derived type also accepts an array of its fields in order, which would hide mistakes.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

struct OnlyMaps<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMaps<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OnlyMaps(PhantomData))
    }
}

/// Checks that the body is CSV, by its media type.
pub(crate) fn must_be_csv(request: &Request) -> Result<(), Problem> {
    if media_type(request.headers()).as_deref() == Some("text/csv") {
        return Ok(());
    }
    Err(Problem::unsupported_media_type("text/csv"))
}

/// The media type in lower case, without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Reads a whole body of at most `bytes_max` bytes. An announced length that is too large is refused at once.
pub(crate) async fn read(request: Request, bytes_max: usize, api: &Api) -> Result<Bytes, Problem> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(Problem::body_too_large(bytes_max));
    }
    let body: Body = request.into_body();
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(api.http.request_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(bytes_max)),
        Ok(Err(_cut_off)) => Err(Problem::malformed_body("the body ended before it was complete")),
        Err(_elapsed) => Err(Problem::body_too_slow(api.http.request_timeout.as_secs())),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Tracking the path of a field costs time, so a body is parsed with it only after an error.
    serde_json::from_slice(bytes).map_err(|error| {
        if !error.is_data() {
            return Problem::malformed_body(format!("the body is not JSON: {error}"));
        }
        let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
        match serde_path_to_error::deserialize::<_, T>(deserializer) {
            Ok(_) => Problem::invalid("body", error.to_string()),
            Err(error) => {
                let detail = without_position(&error.inner().to_string());
                let path = error.path().to_string();
                match (path.as_str(), named_field(&detail)) {
                    (".", Some(field)) => Problem::invalid(field, detail),
                    (".", None) => Problem::invalid("body", detail),
                    (at, Some(field)) => Problem::invalid(format!("{at}.{field}"), detail),
                    (at, None) => Problem::invalid(at, detail),
                }
            }
        }
    })
}

/// The field that serde reports as missing or duplicate. It is not on the path of the error.
fn named_field(detail: &str) -> Option<String> {
    let named =
        detail.strip_prefix("missing field `").or_else(|| detail.strip_prefix("duplicate field `"))?;
    named.split('`').next().map(str::to_owned)
}

/// Cuts serde's position, which counts in the raw body, off the message.
fn without_position(detail: &str) -> String {
    detail.rsplit_once(" at line ").map_or(detail, |(head, _)| head).to_owned()
}
