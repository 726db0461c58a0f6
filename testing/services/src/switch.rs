//! A TCP proxy that knows nothing of what it forwards, to make any server unreachable, or far away, without touching it.
//!
//! Never: a look into the bytes; what depends on them is `proxy/`'s. Threads and blocking sockets, as there: a gate serves
//! clients of any runtime, or none.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    connections::{Connections, lock},
    port,
};

const BUFFER: usize = 64 << 10;
/// How much a client may have under way; then it has to wait.
const CHUNKS_MAX: usize = 1024;
/// How often a port is tried when the one that was free is not any more.
const TRIES: usize = 5;

/// A TCP proxy on a port of 127.0.0.1 that stays its own while it is closed. It is open when it starts.
///
/// Dropping it closes everything.
#[derive(Debug)]
pub struct Switch {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Present while the gate is open.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// What all connections know.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    closing: AtomicBool,
    latency_nanos: AtomicU64,
    accepted: AtomicU64,
    connections: Connections,
}

/// What a client has sent, and when it was read.
struct Chunk {
    read_at: Instant,
    bytes: Vec<u8>,
}

impl Switch {
    /// Starts one in front of `target`. A server that is not there is noticed by whoever connects: the gate hangs up.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = bind()?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            closing: AtomicBool::new(false),
            latency_nanos: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            connections: Connections::default(),
        });
        let acceptor = accept(listener, &shared)?;
        Ok(Self { address, shared, acceptor: Mutex::new(Some(acceptor)) })
    }

    /// Where it listens while it is open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses new connections and cuts all that are open, on both sides, as if the server were gone. What was on its way is
    /// lost. When this returns nobody is connected any more.
    pub fn close(&self) {
        let mut acceptor = lock(&self.acceptor);
        let Some(running) = acceptor.take() else { return };
        self.shared.closing.store(true, Ordering::Release);
        while !running.is_finished() {
            // It waits for a connection. When none can be had it has just ended, or it will be tried again.
            let _ = TcpStream::connect(self.address);
            thread::sleep(Duration::from_millis(1));
        }
        // It does not panic; if it did, there is nothing left to end.
        let _ = running.join();
        self.shared.connections.close_all();
    }

    /// Accepts connections again after [`Switch::close`], at the same address.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub fn open(&self) -> io::Result<()> {
        let mut acceptor = lock(&self.acceptor);
        if acceptor.is_none() {
            let listener = TcpListener::bind(self.address)?;
            self.shared.closing.store(false, Ordering::Release);
            *acceptor = Some(accept(listener, &self.shared)?);
        }
        Ok(())
    }

    /// Lets everything that clients send reach the server so much later: the round-trip time that is added. Any number of
    /// requests may be under way.
    pub fn set_latency(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.shared.latency_nanos.store(nanos, Ordering::Relaxed);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.close();
    }
}

/// On a port that no outgoing connection is given while the gate is closed.
fn bind() -> io::Result<TcpListener> {
    let mut tried = 1;
    loop {
        match TcpListener::bind(("127.0.0.1", port::free()?)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tried < TRIES => tried += 1,
            bound => return bound,
        }
    }
}

/// Accepts until the gate closes; the listener goes with the thread.
fn accept(listener: TcpListener, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    thread::Builder::new().name("gate".to_owned()).spawn(move || {
        for client in listener.incoming() {
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            // A client that is gone already, or too many open files: the next may do better.
            if let Ok(client) = client {
                admit(client, &shared);
            }
        }
    })
}

/// Begins to forward, in threads that end with the connection.
fn admit(client: TcpStream, shared: &Arc<Shared>) {
    let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
    // Known before the server is, so that it can be closed while it waits for it.
    let Ok(known) = client.try_clone() else { return };
    shared.connections.opened(number, known);
    let shared = shared.clone();
    thread::spawn(move || {
        // What fails is one side or the other that has gone; then the other goes as well.
        let _ = forward(number, client, &shared);
        shared.connections.close(number);
    });
}

fn forward(number: u64, mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    shared.connections.joined(number, server.try_clone()?);
    let (sender, queue) = mpsc::sync_channel(CHUNKS_MAX);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let writer = shared.clone();
    thread::spawn(move || read(from_client, &sender));
    thread::spawn(move || {
        if write(to_server, queue, &writer.latency_nanos).is_err() {
            writer.connections.close(number);
        }
    });
    io::copy(&mut server, &mut client).map(|_| ())
}

fn read(mut client: TcpStream, queue: &SyncSender<Chunk>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let chunk = Chunk { read_at: Instant::now(), bytes: buffer[..length].to_vec() };
        if queue.send(chunk).is_err() {
            return;
        }
    }
}

fn write(mut server: TcpStream, queue: Receiver<Chunk>, latency_nanos: &AtomicU64) -> io::Result<()> {
    for Chunk { read_at, bytes } in queue {
        let due = read_at + Duration::from_nanos(latency_nanos.load(Ordering::Relaxed));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        server.write_all(&bytes)?;
    }
    // The client has said all that it had to say; it may still wait for answers.
    server.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A server that sends back what it is sent, until the test ends.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        address
    }

    fn connect(gate: &Switch) -> TcpStream {
        let stream = TcpStream::connect(gate.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn comes_back(stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        stream.write_all(bytes).unwrap();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    /// The other side has hung up.
    fn is_closed(stream: &mut TcpStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn a_closed_gate_refuses_and_cuts_and_opens_at_the_same_address() {
        let gate = Switch::start(echo()).unwrap();
        let mut clients = [connect(&gate), connect(&gate)];
        for _ in 0..3 {
            for client in &mut clients {
                comes_back(client, b"hello");
            }
            // When it closes, then whoever was connected is cut, and nobody gets in
            gate.close();
            gate.close();
            assert!(clients.iter_mut().all(is_closed));
            let refused = TcpStream::connect(gate.address()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            // When it opens, then new connections are forwarded
            gate.open().unwrap();
            gate.open().unwrap();
            clients = [connect(&gate), connect(&gate)];
        }
        for client in &mut clients {
            comes_back(client, b"again");
        }
        // When it is dropped, then it is closed
        let address = gate.address();
        drop(gate);
        assert!(clients.iter_mut().all(is_closed));
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn latency_is_added_once_to_what_is_under_way_together() {
        const LATENCY: Duration = Duration::from_millis(100);
        let gate = Switch::start(echo()).unwrap();
        let mut client = connect(&gate);
        gate.set_latency(LATENCY);
        let started = Instant::now();
        for _ in 0..20 {
            client.write_all(b"hello").unwrap();
        }
        let mut got = [0; 100];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got.to_vec(), b"hello".repeat(20));
        let took = started.elapsed();
        assert!(took >= LATENCY && took < 10 * LATENCY, "{took:?}");
    }

    #[test]
    fn a_client_that_has_said_all_still_gets_its_answer() {
        let gate = Switch::start(echo()).unwrap();
        let mut client = connect(&gate);
        client.write_all(b"all").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"all");
    }

    #[test]
    fn a_server_that_is_gone_is_a_client_that_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Switch::start(listener.local_addr().unwrap()).unwrap();
        drop(listener);
        assert!(is_closed(&mut connect(&gate)));
    }
}
