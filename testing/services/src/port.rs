//! Free ports for servers.
//!
//! Never: a port of the range that systems give to outgoing connections, where a client that keeps trying a killed
//! server's port can be given that very port and talk to itself. Next: whoever binds must be ready to find it taken.

use std::{io, net::TcpListener};

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free() -> io::Result<u16> {
    const TRIES: usize = 100;
    // Linux gives 32768 and more to outgoing connections, others 49152 and more.
    let mut tried = (0..TRIES).map(|_| fastrand::u16(10_000..32_000));
    tried
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port between 10000 and 32000"))
}
