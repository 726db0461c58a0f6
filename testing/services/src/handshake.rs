//! Reads the first packet that a MySQL server sends: its version and its capabilities.
//!
//! Never: a login. Layout: Protocol::HandshakeV10 among
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets.html>.

use std::{io, net::SocketAddr, ops::Range, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

const PROTOCOL: u8 = 10;
/// MariaDB puts this in front of its version, because replicas of MySQL 5.5 could not read a major version of
/// two digits.
const MARIADB_PREFIX: &str = "5.5.5-";

/// The handshake packet of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The server's version, such as `10.11.19-MariaDB` or `8.4.7`.
    pub(crate) version: String,
    /// The positions in the payload of the lower and upper halves of the capabilities, and of MariaDB's own
    /// capabilities.
    pub(crate) lower: Range<usize>,
    pub(crate) upper: Range<usize>,
    pub(crate) extended: Range<usize>,
}

impl Handshake {
    /// Parses a payload. Returns `None` for any other packet, such as the error "Too many connections".
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (protocol, rest) = payload.split_first()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let version = str::from_utf8(&rest[..end]).ok()?;
        let version = version.strip_prefix(MARIADB_PREFIX).unwrap_or(version).to_owned();
        // The version is followed by 4 bytes of connection id, 8 of salt, a zero, 2 of capabilities, 1 of
        // character set, 2 of status, 2 of capabilities, 1 with the length of the salt, 6 zeros, and 4 zeros
        // or MariaDB's capabilities.
        let lower = end + 2 + 13;
        let upper = lower + 5;
        let extended = upper + 9;
        (*protocol == PROTOCOL && payload.len() >= extended + 4).then_some(Self {
            version,
            lower: lower..lower + 2,
            upper: upper..upper + 2,
            extended: extended..extended + 4,
        })
    }
}

/// Connects to a server and reads its handshake.
pub(crate) async fn read(address: SocketAddr) -> io::Result<Handshake> {
    // A server that is starting may answer late or not at all; callers retry.
    timeout(Duration::from_secs(2), read_first(address)).await?
}

async fn read_first(address: SocketAddr) -> io::Result<Handshake> {
    let mut stream = TcpStream::connect(address).await?;
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Handshake::parse(&payload).ok_or_else(|| {
        let payload = String::from_utf8_lossy(&payload).into_owned();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not the handshake of a MySQL server: {payload:?}"),
        )
    })
}
