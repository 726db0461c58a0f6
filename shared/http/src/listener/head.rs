//! How long a client has been at sending one request's head. Idle between requests is another thing: it is no fault.

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

/// Nothing of a request has come.
const IDLE: u64 = 0;
/// A request is being served; what is read now is its body, or one to come.
const SERVING: u64 = u64::MAX;

/// When the head began to come, in microseconds after the connection was made, or one of the marks above.
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

    fn begun(&self) {
        if self.state.load(Ordering::Relaxed) == IDLE {
            self.state.store(self.micros(), Ordering::Relaxed);
        }
    }

    /// The head is complete.
    pub(super) fn complete(&self) {
        self.state.store(SERVING, Ordering::Relaxed);
    }

    /// The request was answered.
    pub(super) fn answered(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// Returns when a head has been on its way for `limit`. Looks twice in that time, so it may be half as late again.
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

/// A whole answer, as bytes go: where there is no request there is no router to make one. The texts have no quotes.
pub(super) fn answer(status: u16, slug: &str, title: &str, detail: &str) -> String {
    let body = format!(r#"{{"type":"{slug}","title":"{title}","status":{status},"detail":"{detail}"}}"#);
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A stream that tells the clock when bytes come.
pub(super) struct Timed {
    stream: TcpStream,
    clock: HeadClock,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, clock: HeadClock) -> Self {
        Self { stream, clock }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.clock.begun();
        }
        read
    }
}

impl AsyncWrite for Timed {
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
