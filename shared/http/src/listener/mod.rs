//! The listener: serves HTTP/1.1 on TCP connections, limits their number and the time of slow clients, and shuts down
//! gracefully.

mod clock;
mod places;
mod plain_answer;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::HeaderValue, response::IntoResponse};
use bespeak::{
    http_options::HttpOptions,
    telemetry::{self, ClosedConnection, LogLimit},
};
use hyper::{
    body::Incoming,
    header,
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

use crate::{
    headers,
    operations::is_health_check,
    problem::{Kind, Problem},
};
use clock::{ClientLimits, ConnectionClock, Exceeded, TimedStream};
use places::{Place, Places};

/// How long a connection may be idle between requests. Most proxies close theirs after 60 s, so the proxy closes
/// first, and never sends a request on a connection that is being closed here.
const IDLE: Duration = Duration::from_secs(75);
/// How long requests in flight may take after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, for instance because no file descriptor is left.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);
/// How long the client of a connection beyond the limit may take for its head, and for its answer; also how long a
/// client may take for an answer after which its connection is closed.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

/// The address of the client of a connection, as the kernel reports it: behind a proxy, the proxy's. An extension of
/// each request that came through a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// Serves `router` until `stop` is cancelled, then finishes the requests in flight, for at most 10 s.
///
/// At most `connections_max` connections are served. Beyond that, connections that are idle end, and a few more get one
/// answer each: health checks are answered, and other requests get 503. A client that takes longer than
/// `request_timeout` to send the head of a request gets 408, and its connection is closed (the handlers limit the time
/// of bodies). A client that does not take an answer within `response_timeout` is disconnected. A client may close its
/// sending side and still gets its answers. Pipelined requests are answered in order. Not cancel-safe: cancel `stop`
/// instead.
pub async fn serve(listener: TcpListener, router: Router, http: &HttpOptions, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Places::new(http.connections_max));
    let accept_errors = LogLimit::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error, &accept_errors).await;
                    continue;
                }
            },
        };
        let Some(place) = places.take() else { continue };
        // An answer is one write, which the wait for a full packet would only delay.
        let _ = stream.set_nodelay(true);
        let served = Connection {
            peer: PeerAddress(peer),
            router: router.clone(),
            http: http.clone(),
            places: places.clone(),
            stop: stop.clone(),
        };
        connections.spawn(served.serve(stream, place));
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

/// Accepts a connection as soon as there is a place for it. Cancel-safe.
async fn accept(listener: &TcpListener, places: &Places) -> io::Result<(TcpStream, SocketAddr)> {
    places.wait().await;
    listener.accept().await
}

/// A connection to be served.
struct Connection {
    peer: PeerAddress,
    router: Router,
    http: HttpOptions,
    places: Arc<Places>,
    stop: CancellationToken,
}

impl Connection {
    /// Serves the connection until it ends.
    async fn serve(self, stream: TcpStream, place: Place) {
        let _open = telemetry::OpenConnection::count();
        let limits = if place.is_spare {
            telemetry::count_closed_connection(ClosedConnection::Limit);
            ClientLimits { head: SHORT_LIMIT, answer: SHORT_LIMIT }
        } else {
            ClientLimits { head: self.http.request_timeout, answer: self.http.response_timeout }
        };
        let clock = ConnectionClock::default();
        let (peer, base, router) = (self.peer, self.http.base_path.clone(), self.router);
        let (is_spare, serving) = (place.is_spare, clock.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            serving.head_complete();
            request.extensions_mut().insert(peer);
            let refused = is_spare && !is_health_check(request.uri().path(), &base);
            let (router, serving) = (router.clone(), serving.clone());
            async move {
                let mut response = if refused {
                    let mut response = Problem::too_many_connections().into_response();
                    headers::protect(&mut response, false);
                    response
                } else {
                    router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {})
                };
                if is_spare {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                serving.answered();
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if is_spare { SHORT_LIMIT } else { IDLE })
            .max_buf_size(self.http.head_bytes_max)
            .half_close(true)
            .serve_connection(TokioIo::new(TimedStream::new(stream, clock.clone())), service);
        let (mut ticks, mut ending) = (limits.ticks(), false);
        let ended = loop {
            tokio::select! {
                ended = &mut connection => break ended,
                () = self.stop.cancelled(), if !ending => {
                    ending = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                _ = ticks.tick() => match clock.exceeded(limits) {
                    Some(Exceeded::Head) => return answer_slow_head(connection, limits.head).await,
                    Some(Exceeded::Answer) => return abandon(connection),
                    None if !ending && clock.is_surplus() && self.places.are_wanted() => {
                        ending = true;
                        telemetry::count_closed_connection(ClosedConnection::Idle);
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                    None => {}
                },
            }
        };
        if let Err(error) = ended {
            answer_broken_head(connection, &error).await;
        }
    }
}

type Http1<S> = http1::Connection<TokioIo<TimedStream>, S>;

/// Answers a client that takes too long to send the head of a request, and closes the connection.
async fn answer_slow_head<S>(connection: Http1<S>, limit: Duration)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    telemetry::count_closed_connection(ClosedConnection::SlowHead);
    let detail = format!("the head of the request did not arrive within {} s", limit.as_secs());
    answer_and_close(connection, &plain_answer::problem(Kind::RequestTimeout, &detail)).await;
}

/// Disconnects a client that does not take its answer.
fn abandon<S>(connection: Http1<S>)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    telemetry::count_closed_connection(ClosedConnection::SlowReader);
    tracing::debug!("a client did not take its answer in time");
    // Without it, the kernel would keep what the client has not taken, and go on to offer it.
    let _ = connection.into_parts().io.into_inner().into_inner().set_zero_linger();
}

/// Answers a request whose connection ended before its head was complete.
async fn answer_broken_head<S>(connection: Http1<S>, error: &hyper::Error)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    // The cause is the client: it closed the connection, or did not send HTTP.
    tracing::debug!(%error, "a connection ended before its request was answered");
    if error.is_incomplete_message() {
        let detail = "the connection was closed before the head of the request was complete";
        answer_and_close(connection, &plain_answer::problem(Kind::MalformedRequest, detail)).await;
    }
}

/// Answers a request whose head never became complete, and closes the connection.
async fn answer_and_close<S>(connection: Http1<S>, answer: &str)
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: std::error::Error + Send + Sync,
{
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    // The connection ends here even if the client no longer reads, so errors do not matter.
    let _ = tokio::time::timeout(SHORT_LIMIT, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Waits before the next accept, unless only one client failed.
async fn pause_after(error: &io::Error, log: &LogLimit) {
    // A client that aborted its connection concerns no other; every other error is a lack of resources.
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        if let Some(others) = log.pass() {
            tracing::error!(%error, others, "cannot accept connections");
        }
        tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
    }
}
