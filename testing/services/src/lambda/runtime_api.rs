//! Lambda's Runtime API, as far as functions use it: the next invocation, its answer or its error, and a failed start.

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

/// Where all paths begin.
const PREFIX: &str = "/2018-06-01/runtime/";

/// Why an invocation failed, as the function said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The type of the error.
    pub kind: String,
    /// What it said.
    pub message: String,
}

/// How an invocation ended.
type Ended = Result<Vec<u8>, Failure>;

/// An invocation under way.
pub struct Invocation {
    ended: oneshot::Receiver<Ended>,
}

impl Invocation {
    /// Waits until the function has answered or failed.
    ///
    /// # Errors
    /// It failed.
    pub async fn ended(self) -> Result<Vec<u8>, Failure> {
        let gone = || Failure { kind: "Test.Gone".to_owned(), message: "the Runtime API is gone".to_owned() };
        self.ended.await.unwrap_or_else(|_| Err(gone()))
    }
}

struct Next {
    id: u64,
    event: Vec<u8>,
    deadline_ms: u128,
}

/// The API of one environment; ends when dropped.
pub(super) struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<Next>,
    listening: AbortHandle,
}

struct Shared {
    /// Whoever asks first waits first.
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Next>>,
    under_way: Mutex<HashMap<u64, oneshot::Sender<Ended>>>,
    init_failure: Mutex<Option<Failure>>,
}

impl RuntimeApi {
    /// Listens on a free port of the loopback.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (invocations, next) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            next: tokio::sync::Mutex::new(next),
            under_way: Mutex::default(),
            init_failure: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, invocations, listening })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn init_failure(&self) -> Option<Failure> {
        self.shared.init_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn invoke(&self, event: Vec<u8>, time: Duration) -> Invocation {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (sender, ended) = oneshot::channel();
        self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The other end lives as long as this.
        let _ = self.invocations.send(Next { id, event, deadline_ms: (now + time).as_millis() });
        Invocation { ended }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // An answer is one write; waiting to fill a packet only delays it.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
        let parts: Vec<_> = path.split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", id, kind @ ("response" | "error")]) => {
                let failed = *kind == "error";
                let error_type = error_type(&request);
                let body = request.into_body().collect().await.map(|body| body.to_bytes().to_vec());
                let Ok(body) = body else { return status(StatusCode::BAD_REQUEST) };
                let ended = if failed { Err(failure(error_type, &body)) } else { Ok(body) };
                self.end(id, ended)
            }
            (&Method::POST, ["init", "error"]) => {
                let error_type = error_type(&request);
                let body = request.into_body().collect().await.map(|body| body.to_bytes().to_vec());
                let failure = failure(error_type, &body.unwrap_or_default());
                *self.init_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                status(StatusCode::ACCEPTED)
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let Some(next) = self.next.lock().await.recv().await else { return status(StatusCode::GONE) };
        let answer = Response::builder()
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
        answer.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn end(&self, id: &str, ended: Ended) -> Response<Full<Bytes>> {
        let id = id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match id.and_then(|id| under_way.remove(&id)) {
            Some(waiting) => {
                // Whoever waited may have given up.
                let _ = waiting.send(ended);
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

/// Of `{"errorType": .., "errorMessage": ..}`, whose type says more than the header's; without a parser, as nothing else here
/// needs one.
fn failure(header: String, body: &[u8]) -> Failure {
    let message = String::from_utf8_lossy(body).into_owned();
    let of_body = message.split_once("\"errorType\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Failure { kind: of_body.map_or(header, |(kind, _)| kind.to_owned()), message }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
