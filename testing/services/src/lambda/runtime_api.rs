//! The part of Lambda's Runtime API that functions use: the next invocation, its response or error, and a failed start.
//!
//! Never: a process; `mod.rs` runs the function.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

/// The beginning of all paths.
const PREFIX: &str = "/2018-06-01/runtime/";

/// The error of an invocation, as the function reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The type of the error, such as `Bespeak.InvalidRequest`.
    pub kind: String,
    /// The body of the error.
    pub message: String,
}

/// The result of an invocation.
type InvocationResult = Result<Vec<u8>, Failure>;

/// An invocation in flight.
pub struct Invocation {
    result: oneshot::Receiver<InvocationResult>,
}

impl Invocation {
    /// Waits until the function has responded or failed.
    ///
    /// # Errors
    /// The function failed.
    pub async fn result(self) -> Result<Vec<u8>, Failure> {
        let gone = || Failure { kind: "Test.Gone".to_owned(), message: "the Runtime API is gone".to_owned() };
        self.result.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// An invocation that a function has not taken yet.
struct Queued {
    id: u64,
    event: Vec<u8>,
    deadline_ms: u128,
}

/// The API of one execution environment. It stops listening when dropped.
pub(super) struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<Queued>,
    listening: AbortHandle,
}

struct Shared {
    /// The lock is fair: requests for the next invocation are served in order.
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Queued>>,
    in_flight: Mutex<HashMap<u64, oneshot::Sender<InvocationResult>>>,
}

impl RuntimeApi {
    /// Listens on a free port of 127.0.0.1.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (invocations, next) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { next: tokio::sync::Mutex::new(next), in_flight: Mutex::default() });
        let listening = tokio::spawn(listen(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, invocations, listening })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn invoke(&self, event: Vec<u8>, time: Duration) -> Invocation {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (sender, result) = oneshot::channel();
        self.shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // It cannot fail: the receiver lives as long as `self`.
        let _ = self.invocations.send(Queued { id, event, deadline_ms: (now + time).as_millis() });
        Invocation { result }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // A response is one write, so waiting for a full packet would only delay it.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.respond(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Shared {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
        let parts: Vec<_> = path.split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", id, kind @ ("response" | "error")]) => {
                let failed = *kind == "error";
                let error_type = error_type(&request);
                let body = request.into_body().collect().await.map(|body| body.to_bytes().to_vec());
                let Ok(body) = body else { return status(StatusCode::BAD_REQUEST) };
                let result = if failed { Err(failure(error_type, &body)) } else { Ok(body) };
                self.end(id, result)
            }
            // The reason is not kept. The invocation times out, and its error contains the function's log.
            (&Method::POST, ["init", "error"]) => status(StatusCode::ACCEPTED),
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let Some(next) = self.next.lock().await.recv().await else { return status(StatusCode::GONE) };
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", format!("00000000-0000-0000-0000-{:012}", next.id))
            .header("lambda-runtime-deadline-ms", next.deadline_ms.to_string())
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:test",
            )
            .header(
                "lambda-runtime-trace-id",
                format!("Root=1-5759e988-bd862e3fe1be46a9{:08x};Parent=53995c3f42cd8ad8;Sampled=1", next.id),
            )
            .body(Full::new(next.event.into()));
        response.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn end(&self, id: &str, result: InvocationResult) -> Response<Full<Bytes>> {
        let id = id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        match id.and_then(|id| in_flight.remove(&id)) {
            Some(waiting) => {
                // It fails if the caller no longer waits.
                let _ = waiting.send(result);
                status(StatusCode::ACCEPTED)
            }
            None => status(StatusCode::BAD_REQUEST),
        }
    }
}

fn error_type(request: &Request<Incoming>) -> String {
    let header = request.headers().get("lambda-runtime-function-error-type");
    header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Reads `{"errorType": .., "errorMessage": ..}`. The body's type is more precise than the header's. No JSON
/// parser is used, because nothing else in this crate needs one.
fn failure(header: String, body: &[u8]) -> Failure {
    let message = String::from_utf8_lossy(body).into_owned();
    let of_body = message.split_once("\"errorType\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Failure { kind: of_body.map_or(header, |(kind, _)| kind.to_owned()), message }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
