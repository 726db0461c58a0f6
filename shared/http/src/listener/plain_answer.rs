//! Answers as bytes, for requests that the router never receives.

use crate::problem::Kind;

/// A problem as the bytes of a whole answer. `detail` must not contain quotes or backslashes, as it is not escaped.
pub(super) fn problem(kind: Kind, detail: &str) -> String {
    debug_assert!(!detail.contains(['"', '\\']), "{detail}");
    let (status, slug, title) = (kind.status().as_u16(), kind.slug(), kind.title());
    let body = format!(r#"{{"type":"{slug}","title":"{title}","status":{status},"detail":"{detail}"}}"#);
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}
