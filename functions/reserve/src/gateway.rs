//! What a gateway made of a request, made into the request that the client sent.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::Response,
};
use http_body_util::{BodyExt, Full};
use lambda_http::{Body as EventBody, Error, RequestExt, request::RequestContext};
use tower::ServiceExt;

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
    let request = event.map(|body| match body {
        EventBody::Text(text) => Body::from(text),
        EventBody::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    });
    match stage.as_deref() {
        // The default stage stands in no path.
        None | Some("" | "$default") => request,
        Some(stage) => bespeak_reserve::strip(request, &format!("/{stage}")),
    }
}
