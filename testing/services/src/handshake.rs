//! The first packet of a MySQL server: whether it answers, which version it is, and what it can do.
//!
//! Never: logging in. Layout: Protocol::HandshakeV10,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html>.

use std::{io, net::SocketAddr, ops::Range, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

const PROTOCOL: u8 = 10;
/// MariaDB says so before its real version, as MySQL 5.5's replicas could not read two digits.
const MARIADB_PREFIX: &str = "5.5.5-";

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// Such as `10.11.19-MariaDB` or `8.4.7`.
    pub(crate) version: String,
    /// Where the lower and the upper half of the capabilities stand in the payload, and MariaDB's own ones.
    pub(crate) lower: Range<usize>,
    pub(crate) upper: Range<usize>,
    pub(crate) extended: Range<usize>,
}

impl Handshake {
    /// Reads a payload; `None` if it is something else, such as "Too many connections".
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (protocol, rest) = payload.split_first()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let version = str::from_utf8(&rest[..end]).ok()?;
        let version = version.strip_prefix(MARIADB_PREFIX).unwrap_or(version).to_owned();
        // After the version: 4 bytes of connection id, 8 of salt, a zero, 2 of capabilities, character set, 2 of status,
        // 2 of capabilities, length of the salt, 6 of zeros, and 4 of zeros or MariaDB's.
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

/// Connects and reads the first packet.
pub(crate) async fn read(address: SocketAddr) -> io::Result<Handshake> {
    // A server that is starting answers late or never; whoever asks, asks again.
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
        let said = String::from_utf8_lossy(&payload).into_owned();
        io::Error::new(io::ErrorKind::InvalidData, format!("not the handshake of a MySQL server: {said:?}"))
    })
}
