//! What a gateway made of a request, made into the request that the client sent.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, Response},
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

/// The request of an event, without the stage in its path, which each kind of gateway handles in its own way.
fn request(event: lambda_http::Request) -> Request {
    let stage = match event.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.stage.clone(),
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.clone(),
        _ => None,
    };
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
    match stage.as_deref() {
        // The default stage stands in no path.
        None | Some("" | "$default") => request,
        Some(stage) => bespeak_reserve::strip(request, &format!("/{stage}")),
    }
}
