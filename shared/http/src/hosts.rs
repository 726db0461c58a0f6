//! Refuses requests in the name of another host: those of web pages that made their own name resolve to this server
//! (DNS rebinding), and those that other pages send across origins.
//!
//! A request without the header `Host` does not come from a browser, and is accepted. Health checks are always
//! answered, because probes may name any host, and their answers say nothing.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bespeak::http_options::AllowedHosts;

use crate::{operations::is_health_check, problem::Problem};

/// The layer that checks the hosts of a request.
pub(crate) async fn check(allowed: AllowedHosts, request: Request, next: Next) -> Response {
    match refusal(&allowed, &request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(allowed: &AllowedHosts, request: &Request) -> Option<Problem> {
    if matches!(allowed, AllowedHosts::Any) || is_health_check(request.uri().path(), "") {
        return None;
    }
    let headers = request.headers();
    let named_by_uri = request.uri().authority().map(|host| Some(host.as_str()));
    for host in texts(headers, &header::HOST).chain(named_by_uri) {
        if !host.is_some_and(|host| allowed.allow(host)) {
            return Some(Problem::host_not_allowed("Host", host.unwrap_or_default()));
        }
    }
    // A browser names the origin of the page in every request that can change something.
    for origin in texts(headers, &header::ORIGIN) {
        let host = origin.and_then(|origin| origin.split_once("://")).map(|(_scheme, host)| host);
        if !host.is_some_and(|host| allowed.allow(host)) {
            return Some(Problem::host_not_allowed("Origin", origin.unwrap_or_default()));
        }
    }
    None
}

/// The values of a header; `None` for one that is no text.
fn texts<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().map(|value| value.to_str().ok())
}
