//! MySQL's packets, as far as the proxy needs them: where one ends, which command it is, and an error's.
//!
//! Never: state of a connection; that is `answers.rs`. Layout: Protocol::Packet,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>.

/// Length and sequence number.
const HEADER: usize = 4;
/// A payload of this length goes on in the next packet.
const LENGTH_MAX: usize = 0xff_ff_ff;

/// Commands, by their first byte.
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

/// One packet, header and all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// As it travels.
    pub(super) bytes: &'a [u8],
    /// It carries on the payload of the packet before it.
    pub(super) continues: bool,
}

impl<'a> Packet<'a> {
    /// Its number within a command or an answer; a command's is 0.
    pub(super) fn sequence(&self) -> u8 {
        self.bytes[3]
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }

    /// The next packet carries on its payload.
    pub(super) fn is_continued(&self) -> bool {
        self.payload().len() == LENGTH_MAX
    }

    /// The command that begins here, if one does. Clients of the connection phase answer the server, and never count from 0.
    pub(super) fn command(&self) -> Option<u8> {
        let begins = self.sequence() == 0 && !self.continues;
        if begins { self.payload().first().copied() } else { None }
    }

    pub(super) fn is_commit(&self) -> bool {
        self.is_query(b"COMMIT")
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
    kept: Vec<u8>,
    continues: bool,
}

impl Splitter {
    /// Takes a chunk, and calls `each` with every packet that is whole now, in order.
    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Packet<'_>)) {
        self.kept.extend_from_slice(chunk);
        let mut done = 0;
        while let Some(bytes) = whole(&self.kept[done..]) {
            let packet = Packet { bytes, continues: self.continues };
            self.continues = packet.is_continued();
            done += bytes.len();
            each(packet);
        }
        self.kept.drain(..done);
    }
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let header = bytes.get(..HEADER)?;
    let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
    bytes.get(..HEADER + length)
}

/// A packet of a payload that is not too long for one.
pub(super) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() < LENGTH_MAX, "it would have to be continued");
    let [low, middle, high, ..] = payload.len().to_le_bytes();
    [&[low, middle, high, sequence], payload].concat()
}

/// A command that is a text.
pub(super) fn query(sql: &str) -> Vec<u8> {
    packet(0, &[&[command::QUERY], sql.as_bytes()].concat())
}

/// The answer to a command that says it failed: ERR_Packet.
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
    fn packets_are_found_wherever_chunks_begin_and_end() {
        let long = vec![7; LENGTH_MAX];
        let stream = [
            query("SELECT 1"),
            query(" commit\n"),
            [&[0xff, 0xff, 0xff, 0], &*long].concat(),
            packet(1, b"tail"),
        ]
        .concat();
        for size in [1, 3, 5, 64, stream.len()] {
            // A chunk of a byte is worth nothing inside of 16 MiB.
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
