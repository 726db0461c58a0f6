//! One connection through the proxy, in three threads. The first reads the client's packets, notes the time
//! and queues them; the second writes each to the server when its latency has passed; the third forwards the
//! responses.
//!
//! Never: a decision about a fault, which `faults.rs` makes when a packet is read. Next: `responses.rs`, the order of
//! responses.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    faults::{Action, Faults},
    packets::{self, Packet, Splitter, command},
    responses::Responses,
};
use crate::{connections::lock, handshake::Handshake};

const BUFFER: usize = 64 << 10;
/// The limit of queued steps per client. A client that sends more has to wait.
const CHUNKS_MAX: usize = 1024;

/// The state that both directions of a connection share.
struct Link {
    number: u64,
    faults: Arc<Faults>,
    return_path: Mutex<ReturnPath>,
}

/// The path of responses to the client.
struct ReturnPath {
    responses: Responses,
    /// `None` after the client's connection was cut.
    client: Option<TcpStream>,
    /// Whether the server supports responses without an END packet after definitions.
    server_without_end: bool,
}

/// A step for the writing thread, with the time at which its packet was read.
struct Queued {
    read_at: Instant,
    step: Step,
}

enum Step {
    /// Forward whole packets. `commands` are the commands that begin in them.
    Forward { bytes: Vec<u8>, commands: Vec<u8> },
    /// Forward this COMMIT and close the client's connection before the response.
    CutAfter { bytes: Vec<u8> },
    /// Close both sides.
    CutBefore,
    /// Send an error instead of the server's response.
    Fail(Action),
}

/// Forwards a connection, in threads that end with it.
pub(super) fn open(number: u64, client: TcpStream, target: SocketAddr, faults: Arc<Faults>) {
    // Registered before the server is connected, so that the client can be closed while it waits for that.
    let registered = client.try_clone().map(|side| faults.open.add(number, side));
    thread::spawn(move || {
        if registered.is_ok() {
            // An error means that one side is gone; then the other side is closed as well.
            let _ = forward(number, client, target, &faults);
        }
        faults.close(number);
    });
}

fn forward(number: u64, client: TcpStream, target: SocketAddr, faults: &Arc<Faults>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    faults.open.add_server(number, server.try_clone()?);
    let return_path = ReturnPath {
        responses: Responses::default(),
        client: Some(client.try_clone()?),
        server_without_end: false,
    };
    let link = Arc::new(Link { number, faults: faults.clone(), return_path: Mutex::new(return_path) });
    let (sender, queue) = mpsc::sync_channel(CHUNKS_MAX);
    let (reader, writer) = (link.clone(), link.clone());
    let to_server = server.try_clone()?;
    thread::spawn(move || reader.read_client(client, &sender));
    thread::spawn(move || {
        if writer.write_server(to_server, queue).is_err() {
            writer.faults.close(writer.number);
        }
    });
    link.read_server(server)
}

impl Link {
    fn read_client(&self, mut client: TcpStream, queue: &SyncSender<Queued>) {
        let mut buffer = vec![0; BUFFER];
        let mut splitter = Splitter::default();
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let read_at = Instant::now();
            let mut steps = Vec::new();
            splitter.feed(&buffer[..length], |packet| self.plan(packet, &mut steps));
            if steps.into_iter().any(|step| queue.send(Queued { read_at, step }).is_err()) {
                return;
            }
        }
    }

    /// Appends the step for a packet of the client. Consecutive packets to forward become one step.
    fn plan(&self, packet: Packet<'_>, steps: &mut Vec<Step>) {
        let begins = packet.command();
        if begins.is_none() && packet.sequence() == 1 && !packet.continues {
            self.note_capabilities(packet);
        }
        let action = self.faults.action(packet);
        match (action, steps.last_mut()) {
            (Action::Forward, Some(Step::Forward { bytes, commands })) => {
                bytes.extend_from_slice(packet.bytes);
                commands.extend(begins);
            }
            (Action::Forward, _) => steps
                .push(Step::Forward { bytes: packet.bytes.to_vec(), commands: begins.into_iter().collect() }),
            (Action::CutAfter, _) => steps.push(Step::CutAfter { bytes: packet.bytes.to_vec() }),
            (Action::CutBefore, _) => steps.push(Step::CutBefore),
            (Action::Deadlock | Action::LockWait, _) => steps.push(Step::Fail(action)),
        }
    }

    /// Reads the client's capabilities in its response to the handshake: CLIENT_DEPRECATE_EOF is bit 24.
    fn note_capabilities(&self, packet: Packet<'_>) {
        let mut return_path = lock(&self.return_path);
        let client = packet.payload().get(3).is_some_and(|byte| byte & 1 != 0);
        return_path.responses.without_end = client && return_path.server_without_end;
    }

    fn write_server(&self, mut server: TcpStream, queue: Receiver<Queued>) -> io::Result<()> {
        for Queued { read_at, step } in queue {
            sleep_until(read_at + self.faults.latency());
            self.faults.wait_while_stalled(self.number);
            match step {
                Step::Forward { bytes, commands } => {
                    for command in commands {
                        self.expect(command);
                    }
                    server.write_all(&bytes)?;
                }
                Step::CutAfter { bytes } => return self.cut_after(&mut server, &bytes),
                Step::CutBefore => {
                    self.faults.cuts.fetch_add(1, Ordering::Relaxed);
                    self.faults.close(self.number);
                    return Ok(());
                }
                Step::Fail(error) => self.fail(&mut server, error)?,
            }
        }
        // The client has closed its sending side and may still wait for responses.
        server.shutdown(Shutdown::Write)
    }

    fn expect(&self, command: u8) {
        if lock(&self.return_path).responses.expect(command, true) {
            self.faults.commands.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends the COMMIT without a path back to the client. `read_server` closes the server's side after the
    /// last response.
    fn cut_after(&self, server: &mut TcpStream, commit: &[u8]) -> io::Result<()> {
        self.expect(command::QUERY);
        let client = lock(&self.return_path).client.take();
        let sent = server.write_all(commit);
        // The cut is counted before the client can notice it, so that tests see the count.
        self.faults.cuts.fetch_add(1, Ordering::Relaxed);
        if let Some(client) = client {
            // It fails if the client is gone already.
            let _ = client.shutdown(Shutdown::Both);
        }
        sent
    }

    /// Sends an injected error to the client, and for a deadlock a ROLLBACK to the server.
    fn fail(&self, server: &mut TcpStream, error: Action) -> io::Result<()> {
        let mut return_path = lock(&self.return_path);
        let rollback = error == Action::Deadlock;
        if rollback {
            return_path.responses.expect(command::QUERY, false);
        }
        return_path.responses.push_own(error.error());
        let mut out = Vec::new();
        return_path.responses.append_own(&mut out);
        if let Some(client) = &mut return_path.client {
            client.write_all(&out)?;
        }
        drop(return_path);
        if rollback { server.write_all(&packets::query("ROLLBACK")) } else { Ok(()) }
    }

    /// Forwards responses until the server closes the connection, or has sent the last response to a client
    /// that was cut.
    fn read_server(&self, mut server: TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut splitter = Splitter::default();
        let mut greeted = false;
        let mut out = Vec::new();
        loop {
            let length = server.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.faults.wait_while_stalled(self.number);
            let return_path = &mut *lock(&self.return_path);
            out.clear();
            splitter.feed(&buffer[..length], |packet| {
                if greeted {
                    return_path.responses.accept(packet, &mut out);
                } else {
                    greeted = true;
                    out.extend(greeting(packet, &mut return_path.server_without_end));
                }
            });
            match &mut return_path.client {
                Some(client) => client.write_all(&out)?,
                None if return_path.responses.is_idle() => return Ok(()),
                None => {}
            }
        }
    }
}

/// Sleeps until `due`, never less, and usually less than 0.1 ms more. The system wakes a thread about 0.06 ms
/// late, so the last part of the time is spent yielding.
fn sleep_until(due: Instant) {
    const WAKE_DELAY: Duration = Duration::from_micros(60);
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(WAKE_DELAY) {
            Some(early) => thread::sleep(early),
            None => thread::yield_now(),
        }
    }
}

/// The server's handshake without the capabilities that the proxy cannot read: compression (bits 5 and 26),
/// TLS (bit 11), and MariaDB's extensions, such as responses without definitions. Stores in `without_end`
/// whether the server has bit 24.
fn greeting(packet: Packet<'_>, without_end: &mut bool) -> Vec<u8> {
    let mut bytes = packet.bytes.to_vec();
    let payload = &mut bytes[packet.bytes.len() - packet.payload().len()..];
    if let Some(Handshake { lower, upper, extended, .. }) = Handshake::parse(payload) {
        payload[lower.start] &= !(1 << 5);
        payload[lower.start + 1] &= !(1 << (11 - 8));
        *without_end = payload[upper.start + 1] & 1 != 0;
        payload[upper.start + 1] &= !(1 << (26 - 24));
        payload[extended].fill(0);
    }
    bytes
}
