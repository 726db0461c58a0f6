//! The listener: serves HTTP/1.1 on TCP connections, limits the time of slow senders, and shuts down gracefully.

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

use crate::problem::Kind;
use head::{HeadClock, TimedStream};

/// How long a connection may be idle between requests. Most proxies close theirs after 60 s, so the proxy closes first, and
/// never sends a request on a connection that is being closed here.
const IDLE: Duration = Duration::from_secs(75);
/// How long requests in flight may take after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, for instance because no file descriptor is left.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Serves `router` until `stop` is cancelled, then finishes the requests in flight, for at most 10 s.
///
/// A client that takes longer than `request_timeout` to send the head of a request gets 408, and its connection is closed
/// (the handlers limit the time of bodies). A client may close its sending side and still gets its answers. Pipelined
/// requests are answered in order. Not cancel-safe: cancel `stop` instead.
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
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        // An answer is one write, which the wait for a full packet would only delay.
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, router.clone(), request_timeout, stop.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "closing the connections of clients that did not finish in time"
        );
    }
}

/// Serves one connection until it ends.
async fn connection(stream: TcpStream, router: Router, request_timeout: Duration, stop: CancellationToken) {
    let head = HeadClock::default();
    let clock = head.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        clock.complete();
        let (router, clock) = (router.clone(), clock.clone());
        async move {
            let response =
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
            clock.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .half_close(true)
        .serve_connection(TokioIo::new(TimedStream::new(stream, head.clone())), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
        () = head.too_slow(request_timeout) => {
            let detail = format!("the head of the request did not arrive within {} s", request_timeout.as_secs());
            return answer_and_close(connection, &head::answer(Kind::RequestTimeout, &detail)).await;
        }
    };
    if let Err(error) = ended {
        // The cause is the client: it closed the connection, or did not send HTTP.
        tracing::debug!(%error, "a connection ended before its request was answered");
        if error.is_incomplete_message() {
            let detail = "the connection was closed before the head of the request was complete";
            answer_and_close(connection, &head::answer(Kind::MalformedRequest, detail)).await;
        }
    }
}

/// Answers a request whose head never became complete, and closes the connection.
async fn answer_and_close<S>(connection: http1::Connection<TokioIo<TimedStream>, S>, answer: &str)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    // The connection ends here even if the client no longer reads, so errors do not matter.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Waits before the next accept, unless only one client failed.
async fn pause_after(error: &io::Error) {
    // A client that aborted its connection concerns no other; every other error is a lack of resources.
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
    }
}
