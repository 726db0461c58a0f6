//! A TCP proxy that injects faults between MySQL and its clients: latency, stalls, lost responses, deadlocks.
//!
//! It uses threads and blocking sockets, because Tokio's timer has a resolution of one millisecond.
//! Never: TLS or compression, which the proxy could not read and therefore removes from the server's
//! capabilities; a change of a server's response. Next: `link.rs`, one connection.

mod faults;
mod link;
mod packets;
mod responses;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use self::faults::Faults;

/// A TCP proxy on a free port of 127.0.0.1. A new proxy injects no faults; each fault can be switched while it runs.
///
/// Dropping it closes all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of `target`. If no server listens there, the proxy closes each new connection.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        let acceptor = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            for client in listener.incoming() {
                if shared.stopping.load(Ordering::Acquire) {
                    return;
                }
                // Accepting fails if the client is gone already or too many files are open. The next client
                // may succeed.
                if let Ok(client) = client {
                    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                    link::open(number, client, target, shared.clone());
                }
            }
        })?;
        Ok(Self { address, faults, acceptor: Some(acceptor) })
    }

    /// The address at which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays all bytes from clients to the server, and so adds `latency` to each round trip. Commands in
    /// flight are delayed together, not one after the other.
    pub fn set_latency(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.faults.latency_nanos.store(nanos, Ordering::Relaxed);
    }

    /// While on, forwards nothing in either direction, like a network that drops packets. Connections stay
    /// open, and the bytes arrive when the stall ends.
    pub fn stall(&self, on: bool) {
        self.faults.stall(on);
    }

    /// Forwards each of the next `n` COMMITs (queries of that word alone, on any connection) and closes the
    /// client's side before the response: the commit takes effect, and the client cannot know it. Replaces
    /// the remainder of an earlier call.
    pub fn cut_after_commit(&self, n: usize) {
        self.faults.cut_scripts.store(false, Ordering::Relaxed);
        self.faults.cut_after.store(n, Ordering::Relaxed);
    }

    /// As [`Proxy::cut_after_commit`], and also for queries of several statements of which the last is COMMIT.
    pub fn cut_after_script(&self, n: usize) {
        self.faults.cut_scripts.store(true, Ordering::Relaxed);
        self.faults.cut_after.store(n, Ordering::Relaxed);
    }

    /// Closes both sides instead of forwarding each of the next `n` COMMITs: nothing takes effect, and the
    /// client cannot know it. Replaces the remainder of an earlier call. Takes precedence over
    /// [`Proxy::cut_after_commit`].
    pub fn cut_before_commit(&self, n: usize) {
        self.faults.cut_before.store(n, Ordering::Relaxed);
    }

    /// Answers each query, execution and preparation of a statement except ROLLBACK with an error instead of
    /// forwarding it, with a probability between 0 and 1; 0 ends the injection. Each error is, at random, one
    /// of
    ///
    /// - 1213, a deadlock: the proxy rolls the transaction back, as a server does;
    /// - 1205, a lock wait timeout: a server rolls only the statement back, so the proxy does nothing.
    ///
    /// `seed` determines the errors, given the order in which commands arrive.
    pub fn inject(&self, probability: f64, seed: u64) {
        self.faults.inject(probability, seed);
    }

    /// The numbers of injected deadlocks (1213) and lock wait timeouts (1205).
    pub fn injected(&self) -> (u64, u64) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.faults.deadlocks), count(&self.faults.lock_waits))
    }

    /// The number of COMMITs whose connection was closed before or after them.
    pub fn cuts(&self) -> u64 {
        self.faults.cuts.load(Ordering::Relaxed)
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> u64 {
        self.faults.connections.load(Ordering::Relaxed)
    }

    /// The number of forwarded commands that a server answers, which is the number of round trips. The
    /// connection phase, COM_QUIT, COM_STMT_CLOSE and COM_STMT_SEND_LONG_DATA do not count.
    pub fn commands(&self) -> u64 {
        self.faults.commands.load(Ordering::Relaxed)
    }

    /// Closes both sides of every connection. New connections are accepted.
    pub fn close_all(&self) {
        self.faults.close_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.faults.stopping.store(true, Ordering::Release);
        // The accepting thread waits for a connection. If connecting fails, the thread has ended.
        let woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take()
            && woken.is_ok()
        {
            // The thread does not panic, and if it did, it would have ended as well.
            let _ = acceptor.join();
        }
        self.faults.close_all();
    }
}
