//! Tracks which response belongs to which command, so that the proxy's own responses are sent in the right order.
//!
//! Clients may send several commands before the first is answered, so the outstanding responses form a queue.
//! Never: a change of a server's response. The response to a command that the proxy itself has sent is left out.
//! Layout of responses: COM_QUERY Response and COM_STMT_PREPARE Response,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html>.

use std::collections::VecDeque;

use super::packets::{Packet, command};

const OK: u8 = 0x00;
const LOCAL_INFILE: u8 = 0xfb;
const END: u8 = 0xfe;
const ERR: u8 = 0xff;
/// The status flag of a result that is followed by another one.
const MORE_RESULTS: u8 = 0x08;
/// The greatest length of an END packet. A longer packet with the same first byte is a row.
const END_LENGTH_MAX: usize = 8;

/// A response in the stream to the client.
#[derive(Debug)]
enum Expected {
    /// The server's response to a command; `to_client` is false if the proxy sent the command.
    FromServer { shape: Shape, to_client: bool },
    /// A response that the proxy has made.
    FromProxy(Vec<u8>),
}

/// The next packets of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One packet.
    Single,
    /// The first packet of the response to the execution of a statement.
    Result,
    /// The first packet of the response to the preparation of a statement.
    Prepared,
    /// A number of packets that describe columns or parameters, then rows or nothing.
    Definitions { left: u64, rows: bool },
    /// Rows, until a packet that is not a row.
    Rows,
}

/// The outstanding responses of one connection.
#[derive(Debug, Default)]
pub(super) struct Responses {
    expected: VecDeque<Expected>,
    /// Whether client and server have negotiated that no END packet follows definitions.
    pub(super) without_end: bool,
}

impl Responses {
    /// Registers a command that is about to be sent to the server. Returns whether the server answers it.
    pub(super) fn expect(&mut self, command: u8, to_client: bool) -> bool {
        let shape = match command {
            command::QUIT | command::CLOSE | command::SEND_LONG_DATA => return false,
            command::QUERY | command::EXECUTE => Shape::Result,
            command::PREPARE => Shape::Prepared,
            command::FIELD_LIST | command::FETCH => Shape::Rows,
            _ => Shape::Single,
        };
        self.expected.push_back(Expected::FromServer { shape, to_client });
        true
    }

    /// Queues a response of the proxy, to be sent after all earlier responses.
    pub(super) fn push_own(&mut self, packet: Vec<u8>) {
        self.expected.push_back(Expected::FromProxy(packet));
    }

    /// Whether no response is outstanding.
    pub(super) fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    /// Accepts a packet of the server and appends to `out` the bytes for the client.
    pub(super) fn accept(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) {
        let Some(Expected::FromServer { shape, to_client }) = self.expected.front_mut() else {
            // The packet belongs to the connection phase, or the server sent it without a command.
            out.extend_from_slice(packet.bytes);
            return;
        };
        if *to_client {
            out.extend_from_slice(packet.bytes);
        }
        let next = if packet.continues { Some(*shape) } else { shape.after(packet, self.without_end) };
        if let Some(next) = next {
            *shape = next;
        } else {
            self.expected.pop_front();
            self.append_own(out);
        }
    }

    /// Appends the responses of the proxy that are at the front of the queue.
    pub(super) fn append_own(&mut self, out: &mut Vec<u8>) {
        while let Some(Expected::FromProxy(packet)) = self.expected.front() {
            out.extend_from_slice(packet);
            self.expected.pop_front();
        }
    }
}

impl Shape {
    /// The shape of the packet after this one, or `None` if this one ends the response.
    fn after(self, packet: Packet<'_>, without_end: bool) -> Option<Self> {
        let payload = packet.payload();
        let first = payload.first().copied().unwrap_or(OK);
        let end = u64::from(!without_end);
        match self {
            _ if first == ERR => None,
            Self::Single => None,
            Self::Result if first == OK => more(after_two_numbers(payload)),
            Self::Result if first == LOCAL_INFILE => Some(Self::Result),
            Self::Result => {
                let (columns, _) = number(payload).unwrap_or((0, 0));
                Some(Self::Definitions { left: columns + end, rows: true })
            }
            Self::Prepared => {
                let count = |at: usize| {
                    let bytes = payload.get(at..at + 2).unwrap_or(&[0, 0]);
                    let count = u64::from(u16::from_le_bytes([bytes[0], bytes[1]]));
                    if count == 0 { 0 } else { count + end }
                };
                definitions(count(5) + count(7), false)
            }
            Self::Definitions { left, rows } => definitions(left.saturating_sub(1), rows),
            Self::Rows if first == END && !packet.is_continued() => {
                if without_end {
                    more(after_two_numbers(payload))
                } else if payload.len() <= END_LENGTH_MAX {
                    // The status follows the number of warnings.
                    more(payload.get(3).copied())
                } else {
                    Some(Self::Rows)
                }
            }
            Self::Rows => Some(Self::Rows),
        }
    }
}

fn definitions(left: u64, rows: bool) -> Option<Shape> {
    match (left, rows) {
        (0, true) => Some(Shape::Rows),
        (0, false) => None,
        _ => Some(Shape::Definitions { left, rows }),
    }
}

fn more(status: Option<u8>) -> Option<Shape> {
    let more = status.is_some_and(|status| status & MORE_RESULTS != 0);
    more.then_some(Shape::Result)
}

/// The lower byte of the status in an OK packet, which follows the affected rows and the last insert id.
fn after_two_numbers(payload: &[u8]) -> Option<u8> {
    let mut at = 1;
    for _ in 0..2 {
        at += number(payload.get(at..)?)?.1;
    }
    payload.get(at).copied()
}

/// A length-encoded integer and its encoded length in bytes.
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let width = match bytes.first()? {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => return Some((u64::from(*small), 1)),
    };
    let bytes = bytes.get(1..=width)?;
    let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value, width + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::packets::{self, Splitter};

    /// The payloads that the client receives for these packets of the server.
    fn received(responses: &mut Responses, server: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        Splitter::default().feed(&server.concat(), |packet| responses.accept(packet, &mut out));
        let mut got = Vec::new();
        Splitter::default().feed(&out, |packet| got.push(packet.payload().to_vec()));
        got
    }

    #[test]
    fn own_responses_are_sent_in_order_and_responses_to_the_proxy_are_left_out() {
        for without_end in [false, true] {
            let mut responses = Responses { without_end, ..Responses::default() };
            // Given a query, a preparation, a ROLLBACK of the proxy, and a response of the proxy
            assert!(responses.expect(command::QUERY, true));
            assert!(!responses.expect(command::CLOSE, true));
            assert!(responses.expect(command::PREPARE, true));
            assert!(responses.expect(command::QUERY, false));
            responses.push_own(packets::error(1213, "40001", "again"));
            // When the server sends two results, the first with the flag that another follows
            let end = |status: u8| {
                let ok = vec![END, 0, 0, status, 0, 0, 0];
                packets::packet(4, &if without_end { ok } else { vec![END, 0, 0, status, 0] })
            };
            let definitions_end = if without_end { vec![] } else { vec![end(0)] };
            let mut server = vec![packets::packet(1, &[1]), packets::packet(2, b"column")];
            server.extend(definitions_end.clone());
            server.extend([packets::packet(3, b"\x01row"), end(MORE_RESULTS)]);
            server.push(packets::packet(5, &[OK, 0xfc, 1, 1, 0, 0, 0, 0, 0]));
            // One column, two parameters
            server.push(packets::packet(1, &[OK, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0]));
            server.extend([packets::packet(2, b"?"), packets::packet(3, b"?")]);
            server.extend(definitions_end.clone());
            server.push(packets::packet(4, b"column"));
            server.extend(definitions_end);
            let before_rollback = server.len();
            server.push(packets::packet(1, &[OK, 0, 0, 0, 0, 0, 0]));
            // Then the client gets all responses except that to ROLLBACK, and the proxy's response in its place
            let got = received(&mut responses, &server);
            assert_eq!(got.len(), before_rollback + 1, "{got:?}");
            assert!(got.last().unwrap().ends_with(b"#40001again"), "{got:?}");
            assert!(responses.is_idle());
        }
    }
}
