//! Tests of the proxy with a fake server that each test controls, and one with a real server.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{
    Proxy,
    packets::{self, command, packet},
};
use crate::{Mysql, handshake};

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const PING: u8 = 0x0e;

/// A client, the proxy, and the server's side of the connection.
struct Connected {
    proxy: Proxy,
    client: TcpStream,
    server: TcpStream,
}

/// Connects a client through a proxy and completes the connection phase.
fn connected() -> Connected {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut client = connect(proxy.address());
    let mut server = listener.accept().unwrap().0;
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    exchange(&mut server, &mut client, &packet(0, b"not a handshake, but the first packet"));
    exchange(&mut client, &mut server, &packet(1, &[0; 32]));
    exchange(&mut server, &mut client, &packet(2, OK));
    Connected { proxy, client, server }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// Sends bytes and checks that they arrive unchanged.
fn exchange(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    assert_arrives(to, bytes);
}

fn assert_arrives(to: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
}

fn read_payload(from: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    from.read_exact(&mut header).unwrap();
    let mut payload = vec![0; usize::from(header[0])];
    from.read_exact(&mut payload).unwrap();
    payload
}

/// Whether the other side has closed the connection and nothing is left to read.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn cut_after_commit_forwards_the_commit_and_loses_the_response() {
    let Connected { proxy, mut client, mut server } = connected();
    proxy.cut_after_commit(1);
    exchange(&mut client, &mut server, &packets::query("INSERT"));
    exchange(&mut server, &mut client, &packet(1, OK));
    // When it commits, then the server gets the COMMIT and the client's connection is closed
    exchange(&mut client, &mut server, &packets::query("Commit "));
    assert!(is_closed(&mut client));
    assert_eq!(proxy.cuts(), 1);
    // The server's side stays open until the server has responded
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    server.write_all(&packet(1, OK)).unwrap();
    assert!(is_closed(&mut server));
    assert_eq!((proxy.commands(), proxy.connections()), (2, 1));
}

#[test]
fn cut_before_commit_loses_the_commit() {
    let Connected { proxy, mut client, mut server } = connected();
    proxy.cut_before_commit(1);
    client.write_all(&packets::query("COMMIT")).unwrap();
    assert!(is_closed(&mut client));
    assert!(is_closed(&mut server));
    assert_eq!((proxy.cuts(), proxy.commands()), (1, 0));
}

#[test]
fn a_stall_delays_bytes_and_loses_none() {
    let Connected { proxy, mut client, mut server } = connected();
    proxy.stall(true);
    client.write_all(&packets::query("SELECT 1")).unwrap();
    server.write_all(&packet(1, OK)).unwrap();
    // A while in which the bytes would have arrived
    for stream in [&mut client, &mut server] {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    proxy.stall(false);
    assert_arrives(&mut server, &packets::query("SELECT 1"));
    assert_arrives(&mut client, &packet(1, OK));
    // A stalled connection can be closed
    proxy.stall(true);
    client.write_all(&packets::query("SELECT 1")).unwrap();
    proxy.close_all();
    assert!(is_closed(&mut client) && is_closed(&mut server));
}

#[test]
fn latency_is_added_once_to_commands_in_flight_together() {
    const LATENCY: Duration = Duration::from_millis(100);
    let Connected { proxy, mut client, mut server } = connected();
    proxy.set_latency(LATENCY);
    let started = Instant::now();
    for _ in 0..20 {
        client.write_all(&packets::query("SELECT 1")).unwrap();
    }
    assert_arrives(&mut server, &packets::query("SELECT 1").repeat(20));
    let took = started.elapsed();
    assert!(took >= LATENCY && took < 10 * LATENCY, "{took:?}");
}

#[test]
fn only_injected_deadlocks_roll_back() {
    const STATEMENTS: u64 = 40;
    let Connected { proxy, mut client, mut server } = connected();
    // Given a server that answers OK to every command and records the commands
    let recording = thread::spawn(move || {
        let mut commands = Vec::new();
        loop {
            let payload = read_payload(&mut server);
            if payload == [command::QUIT] {
                return commands;
            }
            commands.push(payload);
            server.write_all(&packet(1, OK)).unwrap();
        }
    });
    // When every statement fails
    proxy.inject(1.0, 7);
    let codes = (0..STATEMENTS).map(|_| {
        client.write_all(&packets::query("UPDATE")).unwrap();
        let payload = read_payload(&mut client);
        assert_eq!(payload[0], 0xff);
        u64::from(u16::from_le_bytes([payload[1], payload[2]]))
    });
    let codes: Vec<_> = codes.collect();
    // And a command that is not a statement succeeds
    client.write_all(&packet(0, &[PING])).unwrap();
    assert_eq!(read_payload(&mut client), OK);
    client.write_all(&packet(0, &[command::QUIT])).unwrap();
    // Then the server received a ROLLBACK for each deadlock, and nothing else
    let (deadlocks, lock_waits) = proxy.injected();
    assert!(deadlocks > 0 && lock_waits > 0, "{codes:?}");
    assert_eq!(codes.iter().sum::<u64>(), 1213 * deadlocks + 1205 * lock_waits);
    let mut expected = vec![b"\x03ROLLBACK".to_vec(); usize::try_from(deadlocks).unwrap()];
    expected.push(vec![PING]);
    assert_eq!(recording.join().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_of_a_real_server_is_forwarded() {
    let server = Mysql::provide().await.unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let handshake = handshake::read(proxy.address()).await.unwrap();
    assert_eq!(handshake.version, server.version());
}
