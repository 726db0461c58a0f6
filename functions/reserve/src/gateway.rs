//! What a gateway made of a request, made into the request that the client sent.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, Response, Uri},
};
use http_body_util::{BodyExt, Full};
use lambda_http::{Body as EventBody, Error, RequestExt, request::RequestContext};
use tower::ServiceExt;

/// The header of X-Ray, which the router knows.
const XRAY: &str = "x-amzn-trace-id";

/// Answers an event, as a whole: gateways take no parts.
pub(crate) async fn answer(
    router: Router,
    event: lambda_http::Request,
) -> Result<Response<Full<Bytes>>, Error> {
    let (parts, body) = router.oneshot(request(event)).await?.into_parts();
    Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
}

/// Where the API's own paths begin.
const OWN: &str = "/api/v1/";
/// What a resource's id follows.
const RESOURCES: &str = "/api/v1/resources/";

/// The request of an event, as the client sent it: each kind of gateway has its own way with stages and encoded paths.
fn request(event: lambda_http::Request) -> Request {
    let stage = stage_in_path(&event);
    let decoded = matches!(event.request_context_ref(), Some(RequestContext::ApiGatewayV2(context))
        if !context.domain_name.as_deref().is_some_and(|domain| domain.contains(".lambda-url.")));
    let xray = event.lambda_context_ref().and_then(|context| context.xray_trace_id.clone());
    let mut request = event.map(|body| match body {
        EventBody::Text(text) => Body::from(text),
        EventBody::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    });
    // Which trace the invocation is of, where the gateway does not say it.
    if let Some(xray) = xray.and_then(|xray| HeaderValue::from_str(&xray).ok()) {
        request.headers_mut().entry(XRAY).or_insert(xray);
    }
    if let Some(stage) = stage {
        request = bespeak_http::strip(request, &format!("/{stage}"));
    }
    if decoded { with_id_encoded(request) } else { request }
}

/// The stage, where the path of the request has it in front of what the client sent.
///
/// An HTTP API's path has it, a REST API's has not, and `lambda_http` puts it in front of either where it is not there yet.
/// So a path that could be the API's own keeps a beginning that is called as the stage is.
fn stage_in_path(event: &lambda_http::Request) -> Option<String> {
    let (stage, is_rest) = match event.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => (context.stage.clone()?, true),
        RequestContext::ApiGatewayV2(context) => (context.stage.clone()?, false),
        _ => return None,
    };
    if stage.is_empty() || stage == "$default" {
        return None;
    }
    let raw = event.raw_http_path();
    let begins = raw.starts_with(&format!("/{stage}/"));
    (!begins || !(is_rest || raw.starts_with(OWN))).then_some(stage)
}

/// HTTP APIs decode paths. The id of a resource is the one part of a path that may have a slash in it.
fn with_id_encoded(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some((before, id)) = path.split_once(RESOURCES).filter(|(_, id)| id.contains('/')) else {
        return request;
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let encoded = format!("{before}{RESOURCES}{}{query}", id.replace('/', "%2F"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = encoded.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
