//! A TCP proxy that makes any server unreachable or slow without touching it.
//!
//! It uses threads and blocking sockets, so its clients may use any async runtime or none.
//! Never: a look at the forwarded bytes; faults that depend on them are injected by `proxy/`.

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
    process::PORT_ATTEMPTS,
};

const BUFFER: usize = 64 << 10;
/// The limit of chunks in flight per client. A client that sends more has to wait.
const CHUNKS_MAX: usize = 1024;

/// A TCP proxy on a port of 127.0.0.1, which keeps the same port while it is off. A new switch is on: it forwards.
///
/// Dropping it closes all connections.
#[derive(Debug)]
pub struct Switch {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The accepting thread, while the switch is on.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    closing: AtomicBool,
    latency_nanos: AtomicU64,
    accepted: AtomicU64,
    connections: Connections,
}

/// Bytes of a client, with the time at which they were read.
struct Chunk {
    read_at: Instant,
    bytes: Vec<u8>,
}

impl Switch {
    /// Starts a switch in front of `target`. If no server listens there, the switch closes each new connection.
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

    /// The address at which the switch listens while it is on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses new connections and closes both sides of all open ones, as if the server were gone. Bytes in
    /// flight are lost. All connections are closed when this returns.
    pub fn turn_off(&self) {
        let mut acceptor = lock(&self.acceptor);
        let Some(running) = acceptor.take() else { return };
        self.shared.closing.store(true, Ordering::Release);
        while !running.is_finished() {
            // The thread waits for a connection. If connecting fails, the thread has just ended, or the loop
            // tries again.
            let _ = TcpStream::connect(self.address);
            thread::sleep(Duration::from_millis(1));
        }
        // The thread does not panic, and if it did, it would have ended as well.
        let _ = running.join();
        self.shared.connections.close_all();
    }

    /// Accepts connections again after [`Switch::turn_off`], at the same address.
    ///
    /// # Errors
    /// Another program has bound the port meanwhile.
    pub fn turn_on(&self) -> io::Result<()> {
        let mut acceptor = lock(&self.acceptor);
        if acceptor.is_none() {
            let listener = TcpListener::bind(self.address)?;
            self.shared.closing.store(false, Ordering::Release);
            *acceptor = Some(accept(listener, &self.shared)?);
        }
        Ok(())
    }

    /// Delays all bytes from clients to the server, and so adds `latency` to each round trip. Requests in
    /// flight are delayed together, not one after the other.
    pub fn set_latency(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.shared.latency_nanos.store(nanos, Ordering::Relaxed);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.turn_off();
    }
}

/// Binds a port that the system does not assign to outgoing connections while the switch is off.
fn bind() -> io::Result<TcpListener> {
    let mut attempts = 1;
    loop {
        match TcpListener::bind(("127.0.0.1", port::free()?)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < PORT_ATTEMPTS => {
                attempts += 1;
            }
            bound => return bound,
        }
    }
}

/// Accepts connections in a thread until the switch is turned off. The listener is closed with the thread.
fn accept(listener: TcpListener, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    thread::Builder::new().name("switch".to_owned()).spawn(move || {
        for client in listener.incoming() {
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            // Accepting fails if the client is gone already or too many files are open. The next client may succeed.
            if let Ok(client) = client {
                admit(client, &shared);
            }
        }
    })
}

/// Forwards a connection, in threads that end with it.
fn admit(client: TcpStream, shared: &Arc<Shared>) {
    let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
    // Registered before the server is connected, so that the client can be closed while it waits for that.
    let Ok(side) = client.try_clone() else { return };
    shared.connections.add(number, side);
    let shared = shared.clone();
    thread::spawn(move || {
        // An error means that one side is gone; then the other side is closed as well.
        let _ = forward(number, client, &shared);
        shared.connections.close(number);
    });
}

fn forward(number: u64, mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    shared.connections.add_server(number, server.try_clone()?);
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
    // The client has closed its sending side and may still wait for responses.
    server.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A server that sends back all bytes, until the test ends.
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

    fn connect(switch: &Switch) -> TcpStream {
        let stream = TcpStream::connect(switch.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn assert_echoed(stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        stream.write_all(bytes).unwrap();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    /// Whether the other side has closed the connection.
    fn is_closed(stream: &mut TcpStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn a_switch_that_is_off_refuses_connections_and_comes_back_at_the_same_address() {
        let switch = Switch::start(echo()).unwrap();
        let mut clients = [connect(&switch), connect(&switch)];
        for _ in 0..3 {
            for client in &mut clients {
                assert_echoed(client, b"hello");
            }
            // When it is turned off, then open connections are closed and new ones refused
            switch.turn_off();
            switch.turn_off();
            assert!(clients.iter_mut().all(is_closed));
            let refused = TcpStream::connect(switch.address()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            // When it is turned on, then new connections are forwarded
            switch.turn_on().unwrap();
            switch.turn_on().unwrap();
            clients = [connect(&switch), connect(&switch)];
        }
        for client in &mut clients {
            assert_echoed(client, b"again");
        }
        // When it is dropped, then it is off
        let address = switch.address();
        drop(switch);
        assert!(clients.iter_mut().all(is_closed));
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn latency_is_added_once_to_requests_in_flight_together() {
        const LATENCY: Duration = Duration::from_millis(100);
        let switch = Switch::start(echo()).unwrap();
        let mut client = connect(&switch);
        switch.set_latency(LATENCY);
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
    fn a_client_that_closes_its_sending_side_still_gets_the_response() {
        let switch = Switch::start(echo()).unwrap();
        let mut client = connect(&switch);
        client.write_all(b"all").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"all");
    }

    #[test]
    fn connections_are_closed_if_no_server_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let switch = Switch::start(listener.local_addr().unwrap()).unwrap();
        drop(listener);
        assert!(is_closed(&mut connect(&switch)));
    }
}
