//! One connection through the proxy, in three threads: what the client sends is read and stamped in one and written when its
//! time has come in another; a third brings the answers back.
//!
//! Never: a decision about a fault; `faults.rs` makes it when a packet is read. Next: `answers.rs` for who is answered what.

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
    answers::Answers,
    faults::{Fate, Faults},
    packets::{self, Packet, Splitter, command},
};
use crate::{connections::lock, handshake::Handshake};

const BUFFER: usize = 64 << 10;
/// How much a client may have under way; then it has to wait.
const CHUNKS_MAX: usize = 1024;

/// What both directions know.
struct Link {
    number: u64,
    faults: Arc<Faults>,
    back: Mutex<Back>,
}

/// The way back to the client.
struct Back {
    answers: Answers,
    /// Gone when its connection was cut.
    client: Option<TcpStream>,
    /// The server can leave out the packet after definitions.
    server_without_end: bool,
}

/// What the writer does, when its time has come.
struct Order {
    read_at: Instant,
    what: What,
}

enum What {
    /// Whole packets, and the commands that begin in them.
    Forward { bytes: Vec<u8>, commands: Vec<u8> },
    /// Forward this COMMIT, and let the client know nothing.
    CutAfter { bytes: Vec<u8> },
    /// Close.
    CutBefore,
    /// Answer instead of the server.
    Fail(Fate),
}

/// Begins to forward, in threads that end with the connection.
pub(super) fn open(number: u64, client: TcpStream, target: SocketAddr, faults: Arc<Faults>) {
    // Known before the server is, so that it can be closed while it waits for it.
    let known = client.try_clone().map(|side| faults.open.opened(number, side));
    thread::spawn(move || {
        if known.is_ok() {
            // What fails is one side or the other that has gone; then the other goes as well.
            let _ = forward(number, client, target, &faults);
        }
        faults.close(number);
    });
}

fn forward(number: u64, client: TcpStream, target: SocketAddr, faults: &Arc<Faults>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    faults.open.joined(number, server.try_clone()?);
    let back =
        Back { answers: Answers::default(), client: Some(client.try_clone()?), server_without_end: false };
    let link = Arc::new(Link { number, faults: faults.clone(), back: Mutex::new(back) });
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
    fn read_client(&self, mut client: TcpStream, queue: &SyncSender<Order>) {
        let mut buffer = vec![0; BUFFER];
        let mut splitter = Splitter::default();
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let read_at = Instant::now();
            let mut orders = Vec::new();
            splitter.feed(&buffer[..length], |packet| self.sort(packet, &mut orders));
            if orders.into_iter().any(|what| queue.send(Order { read_at, what }).is_err()) {
                return;
            }
        }
    }

    /// Appends what is to be done with a packet of the client.
    fn sort(&self, packet: Packet<'_>, orders: &mut Vec<What>) {
        let begins = packet.command();
        if begins.is_none() && packet.sequence() == 1 && !packet.continues {
            self.agree(packet);
        }
        let fate = self.faults.fate(packet);
        match (fate, orders.last_mut()) {
            (Fate::Forward, Some(What::Forward { bytes, commands })) => {
                bytes.extend_from_slice(packet.bytes);
                commands.extend(begins);
            }
            (Fate::Forward, _) => orders
                .push(What::Forward { bytes: packet.bytes.to_vec(), commands: begins.into_iter().collect() }),
            (Fate::CutAfter, _) => orders.push(What::CutAfter { bytes: packet.bytes.to_vec() }),
            (Fate::CutBefore, _) => orders.push(What::CutBefore),
            (Fate::Deadlock | Fate::LockWait, _) => orders.push(What::Fail(fate)),
        }
    }

    /// The client's answer to the handshake says what it can do: CLIENT_DEPRECATE_EOF is bit 24.
    fn agree(&self, packet: Packet<'_>) {
        let mut back = lock(&self.back);
        let client = packet.payload().get(3).is_some_and(|byte| byte & 1 != 0);
        back.answers.without_end = client && back.server_without_end;
    }

    fn write_server(&self, mut server: TcpStream, queue: Receiver<Order>) -> io::Result<()> {
        for Order { read_at, what } in queue {
            sleep_until(read_at + self.faults.latency());
            self.faults.pass(self.number);
            match what {
                What::Forward { bytes, commands } => {
                    for command in commands {
                        self.expect(command);
                    }
                    server.write_all(&bytes)?;
                }
                What::CutAfter { bytes } => return self.cut_after(&mut server, &bytes),
                What::CutBefore => {
                    self.faults.cuts.fetch_add(1, Ordering::Relaxed);
                    self.faults.close(self.number);
                    return Ok(());
                }
                What::Fail(fate) => self.fail(&mut server, fate)?,
            }
        }
        // The client has said all that it had to say; it may still wait for answers.
        server.shutdown(Shutdown::Write)
    }

    fn expect(&self, command: u8) {
        if lock(&self.back).answers.expect(command, true) {
            self.faults.commands.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From here on no answer finds its way back, and the server's side is closed when it has given its last one.
    fn cut_after(&self, server: &mut TcpStream, commit: &[u8]) -> io::Result<()> {
        self.expect(command::QUERY);
        let client = lock(&self.back).client.take();
        let sent = server.write_all(commit);
        // Counted before the client can notice.
        self.faults.cuts.fetch_add(1, Ordering::Relaxed);
        if let Some(client) = client {
            // It may have gone by itself.
            let _ = client.shutdown(Shutdown::Both);
        }
        sent
    }

    fn fail(&self, server: &mut TcpStream, fate: Fate) -> io::Result<()> {
        let mut back = lock(&self.back);
        let rollback = fate == Fate::Deadlock;
        if rollback {
            back.answers.expect(command::QUERY, false);
        }
        back.answers.answer(fate.error());
        let mut out = Vec::new();
        back.answers.own(&mut out);
        if let Some(client) = &mut back.client {
            client.write_all(&out)?;
        }
        drop(back);
        if rollback { server.write_all(&packets::query("ROLLBACK")) } else { Ok(()) }
    }

    /// Brings answers back until the server hangs up, or has answered a client that was cut.
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
            self.faults.pass(self.number);
            let back = &mut *lock(&self.back);
            out.clear();
            splitter.feed(&buffer[..length], |packet| {
                if greeted {
                    back.answers.take(packet, &mut out);
                } else {
                    greeted = true;
                    out.extend(greeting(packet, &mut back.server_without_end));
                }
            });
            match &mut back.client {
                Some(client) => client.write_all(&out)?,
                None if back.answers.is_idle() => return Ok(()),
                None => {}
            }
        }
    }
}

/// Not before, and mostly less than 0.1 ms after: a system wakes a thread some 0.06 ms late.
fn sleep_until(due: Instant) {
    const LATE: Duration = Duration::from_micros(60);
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(LATE) {
            Some(early) => thread::sleep(early),
            None => thread::yield_now(),
        }
    }
}

/// The server's handshake without what the proxy cannot read through: compression (bits 5 and 26), TLS (bit 11), and what
/// MariaDB has beyond MySQL, such as answers without definitions. `without_end` becomes whether it has bit 24.
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
