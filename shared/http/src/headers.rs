//! The response headers that protect clients: answers are not stored, not guessed to be another type, and the
//! documentation runs only its own code and in no frame.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// The policy of the documentation. Swagger UI has inline styles and images, and loads everything from this server.
const PAGE_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Whether a path is a part of the documentation, which is for browsers.
pub(crate) fn is_page(path: &str) -> bool {
    path == "/docs" || path.starts_with("/docs/")
}

/// Adds the headers. An answer of the API may have a token, a key or a customer in it, so no cache may keep it.
pub(crate) fn protect(response: &mut Response, is_page: bool) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_page {
        for (name, value) in PAGE {
            headers.insert(name, HeaderValue::from_static(value));
        }
    } else {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}
