//! The connections: HTTP/1.1 on a TCP listener, with a time limit on slow senders and a graceful end.

mod head;

use std::{convert::Infallible, io, time::Duration};

use axum::{Router, body::Body};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use head::{HeadClock, Timed};

/// How long a connection may be idle between requests: longer than the 60 s for which most proxies keep theirs, so that
/// the proxy is the one that closes.
const IDLE: Duration = Duration::from_secs(75);
/// How long answers under way may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `stop`, then finishes what is under way.
///
/// A client that takes longer than `request_timeout` to send a request's head is answered 408 and cut off (bodies have
/// their own limit in the handlers). A client may close its sending side and still gets its answers; pipelined requests
/// are answered in order.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    request_timeout: Duration,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
        };
        // An answer is one write; waiting to fill a packet only delays it.
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, router.clone(), request_timeout, stop.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "some clients did not finish in time and are cut off"
        );
    }
}

async fn connection(stream: TcpStream, router: Router, request_timeout: Duration, stop: CancellationToken) {
    let head = HeadClock::default();
    let served = head.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        served.complete();
        let (router, served) = (router.clone(), served.clone());
        async move {
            let response =
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
            served.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .half_close(true)
        .serve_connection(TokioIo::new(Timed::new(stream, head.clone())), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
        () = head.too_slow(request_timeout) => {
            let detail = format!("the request's head did not arrive within {} s", request_timeout.as_secs());
            return last_words(connection, &head::answer(408, "request-timeout", "Request timeout", &detail)).await;
        }
    };
    if let Err(error) = ended {
        // A client's doing: it went away, or spoke no HTTP.
        tracing::debug!(%error, "a connection ended early");
        if error.is_incomplete_message() {
            let detail = "the request ended before its head was complete";
            last_words(connection, &head::answer(400, "malformed-request", "Malformed request", detail))
                .await;
        }
    }
}

/// Answers a request that never became one, and ends the connection.
async fn last_words<S>(connection: http1::Connection<TokioIo<Timed>, S>, answer: &str)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    // Whether the client reads it or not, the connection ends here.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn pause(error: &io::Error) {
    // A connection that was aborted before it was accepted is nobody's problem; anything else is a shortage.
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::error!(%error, "connections cannot be accepted");
        tokio::time::sleep(PAUSE).await;
    }
}
