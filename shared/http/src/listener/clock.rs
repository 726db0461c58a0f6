//! The clock of a connection: how long the client has been sending a head, has left an answer untaken, or has been
//! idle. A limit on a head starts with its first byte, so an idle connection does not exceed it.

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
    time::{Interval, MissedTickBehavior},
};

/// What the client of a connection does at present.
const IDLE: u64 = 0;
const SENDING_HEAD: u64 = 1;
/// A request is being served. Bytes that arrive now belong to its body or to a pipelined request.
const SERVING: u64 = 2;

/// No byte waits to be taken by the client.
const NOTHING_UNTAKEN: u64 = 0;

/// How long a connection is idle before it must make room for others.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// From the first byte of a head to its last.
    pub(super) head: Duration,
    /// From the first byte of an answer that the client does not take at once, until it has taken all of it.
    pub(super) answer: Duration,
}

impl ClientLimits {
    /// The times at which a connection is compared with its limits: each second, or twice within a shorter limit.
    pub(super) fn ticks(self) -> Interval {
        let mut ticks = tokio::time::interval((self.head.min(self.answer) / 2).min(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

/// The limit that a connection exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// The head of a request is incomplete for too long.
    Head,
    /// An answer is not taken.
    Answer,
}

/// The clock of a connection, in microseconds after the connection was made. The lowest two bits of `doing` say what
/// the client does, and the others since when.
#[derive(Clone)]
pub(super) struct ConnectionClock {
    times: Arc<Times>,
}

struct Times {
    doing: AtomicU64,
    untaken_since: AtomicU64,
    connected: Instant,
}

impl Default for ConnectionClock {
    fn default() -> Self {
        let [doing, untaken_since] = [IDLE, NOTHING_UNTAKEN].map(AtomicU64::new);
        Self { times: Arc::new(Times { doing, untaken_since, connected: Instant::now() }) }
    }
}

impl ConnectionClock {
    fn micros(&self) -> u64 {
        // At least 1, which differs from `NOTHING_UNTAKEN`. A connection does not last 2^62 microseconds.
        u64::try_from(self.times.connected.elapsed().as_micros()).unwrap_or(u64::MAX >> 2).max(1)
    }

    fn begin(&self, doing: u64) {
        self.times.doing.store(self.micros() << 2 | doing, Ordering::Relaxed);
    }

    /// Bytes have arrived.
    fn bytes_arrived(&self) {
        if self.times.doing.load(Ordering::Relaxed) & 3 == IDLE {
            self.begin(SENDING_HEAD);
        }
    }

    /// The head is complete, and the request is being served.
    pub(super) fn head_complete(&self) {
        self.begin(SERVING);
    }

    /// The request was answered, so the connection is idle.
    pub(super) fn answered(&self) {
        self.begin(IDLE);
    }

    /// The client did not take all of what was written.
    fn not_taken(&self) {
        if self.times.untaken_since.load(Ordering::Relaxed) == NOTHING_UNTAKEN {
            self.times.untaken_since.store(self.micros(), Ordering::Relaxed);
        }
    }

    /// Everything that was written is with the client, or with the kernel.
    fn all_taken(&self) {
        self.times.untaken_since.store(NOTHING_UNTAKEN, Ordering::Relaxed);
    }

    fn since(&self, begun: u64) -> Duration {
        Duration::from_micros(self.micros().saturating_sub(begun))
    }

    /// The limit that the client exceeds at present.
    pub(super) fn exceeded(&self, limits: ClientLimits) -> Option<Exceeded> {
        let doing = self.times.doing.load(Ordering::Relaxed);
        let untaken_since = self.times.untaken_since.load(Ordering::Relaxed);
        if untaken_since != NOTHING_UNTAKEN && self.since(untaken_since) >= limits.answer {
            return Some(Exceeded::Answer);
        }
        (doing & 3 == SENDING_HEAD && self.since(doing >> 2) >= limits.head).then_some(Exceeded::Head)
    }

    /// Whether the connection has been idle for long enough to make room for another one.
    pub(super) fn is_surplus(&self) -> bool {
        let doing = self.times.doing.load(Ordering::Relaxed);
        doing & 3 == IDLE && self.since(doing >> 2) >= IDLE_MIN
    }
}

/// A stream that reports to the clock which bytes arrive, and which are not taken.
pub(super) struct TimedStream {
    stream: TcpStream,
    clock: ConnectionClock,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, clock: ConnectionClock) -> Self {
        Self { stream, clock }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.clock.not_taken();
        }
        written
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
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    // Hyper flushes the stream only after it has written the whole of its buffer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.clock.all_taken();
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
