//! Free ports for servers.
//!
//! Never: a port of the range that the system assigns to outgoing connections. A client that retries the port
//! of a killed server could be assigned that very port and connect to itself. Next: a caller must expect that
//! the port is taken by the time it binds it.

use std::{io, net::TcpListener};

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free() -> io::Result<u16> {
    const ATTEMPTS: usize = 100;
    // Linux assigns ports from 32768 to outgoing connections, other systems from 49152.
    let mut ports = (0..ATTEMPTS).map(|_| fastrand::u16(10_000..32_000));
    ports
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port between 10000 and 32000"))
}
