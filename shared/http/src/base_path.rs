//! The prefix in front of the API's own paths: a stage, a base-path mapping, or the mount of a proxy.

use axum::http::{Request, Uri, uri::PathAndQuery};

/// Removes `prefix` (such as `/booking`, without a slash at its end) from the path of the request. A path without the
/// prefix stays as it is, so a health check needs no prefix.
pub fn strip<B>(mut request: Request<B>, prefix: &str) -> Request<B> {
    let Some(rest) = request.uri().path_and_query().and_then(|whole| whole.as_str().strip_prefix(prefix))
    else {
        return request;
    };
    let rest = match rest.chars().next() {
        Some('/') => rest.to_owned(),
        None | Some('?') => format!("/{rest}"),
        // The prefix ends within a segment, as `/prod` does in `/production`: this is another path.
        Some(_) => return request,
    };
    let mut parts = request.uri().clone().into_parts();
    // The rest of a valid path and query is valid, so this does not fail.
    let Ok(rest) = PathAndQuery::try_from(rest) else { return request };
    parts.path_and_query = Some(rest);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_prefix_is_removed() {
        let stripped = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).unwrap();
            strip(request, "/prod").uri().to_string()
        };
        assert_eq!(stripped("/prod/api/v1/resources?limit=2"), "/api/v1/resources?limit=2");
        assert_eq!(stripped("https://a.example/prod/x%2Fy"), "https://a.example/x%2Fy");
        assert_eq!(stripped("/prod"), "/");
        assert_eq!(stripped("/prod?x=1"), "/?x=1");
        assert_eq!(stripped("/production/x"), "/production/x");
        assert_eq!(stripped("/health/live"), "/health/live");
    }
}
