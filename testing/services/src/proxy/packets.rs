//! Splits a stream into MySQL packets, reads the command in each, and builds the packets that the proxy sends.
//!
//! Never: the state of a connection, which is in `responses.rs`. Layout: Protocol::Packet,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>.

/// The length of the header: three bytes of length and a sequence number.
const HEADER: usize = 4;
/// A payload of this length is continued in the next packet.
const LENGTH_MAX: usize = 0xff_ff_ff;

/// The commands, by their first byte.
pub(super) mod command {
    pub(crate) const QUIT: u8 = 0x01;
    pub(crate) const QUERY: u8 = 0x03;
    pub(crate) const FIELD_LIST: u8 = 0x04;
    pub(crate) const PREPARE: u8 = 0x16;
    pub(crate) const EXECUTE: u8 = 0x17;
    pub(crate) const SEND_LONG_DATA: u8 = 0x18;
    pub(crate) const CLOSE: u8 = 0x19;
    pub(crate) const FETCH: u8 = 0x1c;
}

/// One packet with its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The packet as it is sent.
    pub(super) bytes: &'a [u8],
    /// Whether it continues the payload of the packet before it.
    pub(super) continues: bool,
}

impl<'a> Packet<'a> {
    /// The number of the packet within an exchange; a command starts at 0.
    pub(super) fn sequence(&self) -> u8 {
        self.bytes[3]
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }

    /// Whether the next packet continues its payload.
    pub(super) fn is_continued(&self) -> bool {
        self.payload().len() == LENGTH_MAX
    }

    /// The command that begins in this packet, if any. In the connection phase clients respond to the server,
    /// so their packets never start at 0.
    pub(super) fn command(&self) -> Option<u8> {
        let begins = self.sequence() == 0 && !self.continues;
        if begins { self.payload().first().copied() } else { None }
    }

    pub(super) fn is_commit(&self) -> bool {
        self.is_query(b"COMMIT")
    }

    /// Whether it is a query of several statements, of which the last is COMMIT.
    pub(super) fn ends_in_commit(&self) -> bool {
        self.command() == Some(command::QUERY)
            && self.payload().trim_ascii_end().to_ascii_uppercase().ends_with(b"; COMMIT")
    }

    pub(super) fn is_rollback(&self) -> bool {
        self.is_query(b"ROLLBACK")
    }

    fn is_query(&self, sql: &[u8]) -> bool {
        self.command() == Some(command::QUERY) && self.payload()[1..].trim_ascii().eq_ignore_ascii_case(sql)
    }
}

/// Cuts a stream into packets, wherever its chunks begin and end.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    continues: bool,
}

impl Splitter {
    /// Adds a chunk and calls `each` with every packet that is complete now, in order.
    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Packet<'_>)) {
        self.buffer.extend_from_slice(chunk);
        let mut done = 0;
        while let Some(bytes) = complete(&self.buffer[done..]) {
            let packet = Packet { bytes, continues: self.continues };
            self.continues = packet.is_continued();
            done += bytes.len();
            each(packet);
        }
        self.buffer.drain(..done);
    }
}

fn complete(bytes: &[u8]) -> Option<&[u8]> {
    let header = bytes.get(..HEADER)?;
    let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
    bytes.get(..HEADER + length)
}

/// A packet with a payload that fits into one packet.
pub(super) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() < LENGTH_MAX, "the payload needs more than one packet");
    let [low, middle, high, ..] = payload.len().to_le_bytes();
    [&[low, middle, high, sequence], payload].concat()
}

/// The command that executes a text statement.
pub(super) fn query(sql: &str) -> Vec<u8> {
    packet(0, &[&[command::QUERY], sql.as_bytes()].concat())
}

/// The response to a command that failed: ERR_Packet.
pub(super) fn error(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend(code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(state.as_bytes());
    payload.extend_from_slice(message.as_bytes());
    packet(1, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_for_any_chunk_boundaries() {
        let long = vec![7; LENGTH_MAX];
        let stream = [
            query("SELECT 1"),
            query(" commit\n"),
            [&[0xff, 0xff, 0xff, 0], &*long].concat(),
            packet(1, b"tail"),
        ]
        .concat();
        for size in [1, 3, 5, 64, stream.len()] {
            // Single bytes are tested at the beginning only; 16 MiB of them would take too long.
            let (head, tail) = stream.split_at(64);
            let chunks = head.chunks(size).chain(tail.chunks(size.max(1 << 20)));
            let mut splitter = Splitter::default();
            let mut seen = Vec::new();
            for chunk in chunks {
                splitter.feed(chunk, |packet| {
                    seen.push((
                        packet.command(),
                        packet.is_commit(),
                        packet.continues,
                        packet.payload().len(),
                    ));
                });
            }
            let query = Some(command::QUERY);
            let expected = [
                (query, false, false, 9),
                (query, true, false, 9),
                (Some(7), false, false, LENGTH_MAX),
                (None, false, true, 4),
            ];
            assert_eq!(seen, expected, "chunks of {size}");
        }
    }
}
