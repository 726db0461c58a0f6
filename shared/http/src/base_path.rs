//! What stands in front of the API's own paths: a stage, a base-path mapping, the mount of a proxy.

use axum::http::{Request, Uri, uri::PathAndQuery};

/// The request with `prefix` (such as `/booking`, without a slash at its end) taken off its path, if it begins with it.
/// Others are left as they are, so that a health check needs no prefix.
pub fn strip<B>(mut request: Request<B>, prefix: &str) -> Request<B> {
    let Some(rest) = request.uri().path_and_query().and_then(|whole| whole.as_str().strip_prefix(prefix))
    else {
        return request;
    };
    let rest = match rest.chars().next() {
        Some('/') => rest.to_owned(),
        None | Some('?') => format!("/{rest}"),
        // Another path that begins with the same letters.
        Some(_) => return request,
    };
    let mut parts = request.uri().clone().into_parts();
    // What is left of a path and query is one.
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
    fn a_prefix_is_taken_off_and_nothing_else() {
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
