//! The time limit for the head of a request. It starts with the first byte, so an idle connection does not exceed it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::problem::Kind;

/// No byte of the next request has arrived.
const IDLE: u64 = 0;
/// A request is being served. Bytes that arrive now belong to its body or to a pipelined request.
const SERVING: u64 = u64::MAX;

/// The clock of a connection. The state is the time at which the first byte of a head arrived, in microseconds after the
/// connection was made, or one of the marks above.
#[derive(Clone)]
pub(super) struct HeadClock {
    state: Arc<AtomicU64>,
    connected: Instant,
}

impl Default for HeadClock {
    fn default() -> Self {
        Self { state: Arc::new(AtomicU64::new(IDLE)), connected: Instant::now() }
    }
}

impl HeadClock {
    fn micros(&self) -> u64 {
        u64::try_from(self.connected.elapsed().as_micros()).unwrap_or(SERVING - 1).clamp(1, SERVING - 1)
    }

    /// Bytes have arrived.
    fn bytes_arrived(&self) {
        if self.state.load(Ordering::Relaxed) == IDLE {
            self.state.store(self.micros(), Ordering::Relaxed);
        }
    }

    /// The head is complete, and the request is being served.
    pub(super) fn complete(&self) {
        self.state.store(SERVING, Ordering::Relaxed);
    }

    /// The request was answered, so the connection is idle.
    pub(super) fn answered(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// Returns once a head has been incomplete for `limit`. It checks twice in that time, so it returns after at most one
    /// and a half times `limit`. Cancel-safe.
    pub(super) async fn too_slow(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit / 2).await;
            let begun = self.state.load(Ordering::Relaxed);
            let late = u128::from(self.micros().saturating_sub(begun)) >= limit.as_micros();
            if begun != IDLE && begun != SERVING && late {
                return;
            }
        }
    }
}

/// A problem as the bytes of a whole answer, for a request that the router never receives. `detail` must not contain
/// quotes or backslashes, as it is not escaped.
pub(super) fn answer(kind: Kind, detail: &str) -> String {
    debug_assert!(!detail.contains(['"', '\\']), "{detail}");
    let (status, slug, title) = (kind.status().as_u16(), kind.slug(), kind.title());
    let body = format!(r#"{{"type":"{slug}","title":"{title}","status":{status},"detail":"{detail}"}}"#);
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// A stream that reports arriving bytes to the clock.
pub(super) struct TimedStream {
    stream: TcpStream,
    clock: HeadClock,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, clock: HeadClock) -> Self {
        Self { stream, clock }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.clock.bytes_arrived();
        }
        read
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
