//! Restores the request that the client sent from the event that a gateway made of it.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, Response, Uri},
};
use http_body_util::{BodyExt, Full};
use lambda_http::{Body as EventBody, Error, RequestExt, request::RequestContext};
use tower::ServiceExt;

/// The trace header of X-Ray, which the router reads.
const XRAY: &str = "x-amzn-trace-id";

/// Answers an event. The body is collected first, because gateways do not take it in parts.
pub(crate) async fn answer(
    router: Router,
    event: lambda_http::Request,
) -> Result<Response<Full<Bytes>>, Error> {
    let (parts, body) = router.oneshot(request(event)).await?.into_parts();
    Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
}

/// The prefix of the API's paths.
const API_PREFIX: &str = "/api/v1/";
/// The prefix of the paths that end in the id of a resource.
const RESOURCE_PREFIX: &str = "/api/v1/resources/";

/// The request of an event as the client sent it. Each kind of gateway treats stages and encoded paths differently.
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
    // Without a trace header from the gateway, the request belongs to the trace of the invocation.
    if let Some(xray) = xray.and_then(|xray| HeaderValue::from_str(&xray).ok()) {
        request.headers_mut().entry(XRAY).or_insert(xray);
    }
    if let Some(stage) = stage {
        request = bespeak_http::strip(request, &format!("/{stage}"));
    }
    if decoded { with_id_encoded(request) } else { request }
}

/// The stage, if the path of the request has it as a prefix that the client did not send.
///
/// The path of an HTTP API contains the stage and the path of a REST API does not, and `lambda_http` prepends it to both
/// unless it is there already. A path that already begins with the name of the stage keeps it if the client can have sent
/// it so: on a REST API, or as a path of this API.
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
    (!begins || !(is_rest || raw.starts_with(API_PREFIX))).then_some(stage)
}

/// Encodes the slashes of a resource id again, which HTTP APIs decode. No other part of a path can contain a slash.
fn with_id_encoded(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some((before, id)) = path.split_once(RESOURCE_PREFIX).filter(|(_, id)| id.contains('/')) else {
        return request;
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let encoded = format!("{before}{RESOURCE_PREFIX}{}{query}", id.replace('/', "%2F"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = encoded.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
