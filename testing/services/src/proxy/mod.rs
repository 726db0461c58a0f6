//! A TCP proxy in front of a MySQL server, to hurt those who use it: latency, stalls, lost answers, deadlocks.
//!
//! Never: TLS or compression, which it hides from clients, since it could not read them; a server's own answers changed.
//! Threads and blocking sockets, since Tokio's clock ticks in milliseconds. Next: `link.rs`, one connection.

mod answers;
mod faults;
mod link;
mod packets;
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

/// A TCP proxy on a free port of 127.0.0.1. It forwards, until told otherwise; everything can be switched while it runs.
///
/// Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one in front of `target`. A server that is not there is noticed by whoever connects: the proxy hangs up.
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
                // A client that is gone already, or too many open files: the next may do better.
                if let Ok(client) = client {
                    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                    link::open(number, client, target, shared.clone());
                }
            }
        })?;
        Ok(Self { address, faults, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets everything that clients send reach the server so much later: the round-trip time that is added. Any number of
    /// commands may be under way.
    pub fn set_latency(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.faults.latency_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Forwards nothing in either direction while it is on, as a network that has failed: connections stay open, and what
    /// was sent arrives when it is off.
    pub fn stall(&self, on: bool) {
        self.faults.stall(on);
    }

    /// Forwards the next `n` COMMITs (queries of that word alone, in any connection), and closes the client's side before the
    /// answer: the commit takes effect, and the client cannot know. Replaces what is left of an earlier call.
    pub fn cut_after_commit(&self, n: usize) {
        self.faults.cut_after.store(n, Ordering::Relaxed);
    }

    /// Closes both sides instead of forwarding the next `n` COMMITs: nothing takes effect, and the client cannot know.
    /// Replaces what is left of an earlier call. Comes before [`Proxy::cut_after_commit`] where both are set.
    pub fn cut_before_commit(&self, n: usize) {
        self.faults.cut_before.store(n, Ordering::Relaxed);
    }

    /// Answers each query, execution and preparation of a statement, but for ROLLBACK, with an error instead of forwarding
    /// it, with a probability of 0 to 1; 0 ends it. Each is, at random, one of
    ///
    /// - 1213, a deadlock, for which the transaction is rolled back, as a server does;
    /// - 1205, a lock wait that took too long, for which a server undoes the statement alone, here: nothing.
    ///
    /// `seed` decides which, given the order in which commands arrive.
    pub fn inject(&self, probability: f64, seed: u64) {
        self.faults.inject(probability, seed);
    }

    /// How many deadlocks (1213) and lock waits (1205) were injected.
    pub fn injected(&self) -> (u64, u64) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.faults.deadlocks), count(&self.faults.lock_waits))
    }

    /// How many COMMITs were cut, before or after.
    pub fn cuts(&self) -> u64 {
        self.faults.cuts.load(Ordering::Relaxed)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.faults.connections.load(Ordering::Relaxed)
    }

    /// How many commands were forwarded that a server answers: round trips. Not among them: the connection phase, and
    /// COM_QUIT, COM_STMT_CLOSE and COM_STMT_SEND_LONG_DATA.
    pub fn commands(&self) -> u64 {
        self.faults.commands.load(Ordering::Relaxed)
    }

    /// Closes every connection, on both sides. New ones are accepted.
    pub fn close_all(&self) {
        self.faults.close_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.faults.stopping.store(true, Ordering::Release);
        // It waits for a connection; if it cannot have one, it has ended.
        let woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take()
            && woken.is_ok()
        {
            // It does not panic; if it did, there is nothing left to end.
            let _ = acceptor.join();
        }
        self.faults.close_all();
    }
}
