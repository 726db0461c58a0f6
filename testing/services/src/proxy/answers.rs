//! Which answer of the server belongs to which command, so that one of the proxy's own can stand in the right place.
//!
//! Never: changing what a server answers; only leaving out the answer to a command that the client did not send. Clients
//! may send commands before the last was answered. Layout of answers: COM_QUERY and COM_STMT_PREPARE Response,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html>.

use std::collections::VecDeque;

use super::packets::{Packet, command};

const OK: u8 = 0x00;
const LOCAL_INFILE: u8 = 0xfb;
const END: u8 = 0xfe;
const ERR: u8 = 0xff;
/// Status: another result follows.
const MORE_RESULTS: u8 = 0x08;
/// An END that is longer is the OK that has taken its place.
const END_LENGTH_MAX: usize = 8;

/// What will stand next in the stream to the client.
#[derive(Debug)]
enum Expected {
    /// The server's answer to a command.
    Answer { shape: Shape, to_client: bool },
    /// An answer that the proxy gives itself.
    Own(Vec<u8>),
}

/// How an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One packet.
    Single,
    /// The first packet of the answer to a prepared or plain statement.
    Result,
    /// The first packet of the answer to a statement's preparation.
    Prepared,
    /// So many packets that describe columns, then rows or nothing.
    Definitions { left: u64, rows: bool },
    /// Rows, until one that is not.
    Rows,
}

/// The answers that are outstanding on one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    expected: VecDeque<Expected>,
    /// The client and the server have agreed that no END follows definitions.
    pub(super) without_end: bool,
}

impl Answers {
    /// A command goes to the server now. Returns whether it has an answer.
    pub(super) fn expect(&mut self, command: u8, to_client: bool) -> bool {
        let shape = match command {
            command::QUIT | command::CLOSE | command::SEND_LONG_DATA => return false,
            command::QUERY | command::EXECUTE => Shape::Result,
            command::PREPARE => Shape::Prepared,
            command::FIELD_LIST | command::FETCH => Shape::Rows,
            _ => Shape::Single,
        };
        self.expected.push_back(Expected::Answer { shape, to_client });
        true
    }

    /// The proxy answers a command itself, when all before it are answered.
    pub(super) fn answer(&mut self, own: Vec<u8>) {
        self.expected.push_back(Expected::Own(own));
    }

    /// Nothing is outstanding.
    pub(super) fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    /// A packet of the server: appends to `out` what the client gets.
    pub(super) fn take(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) {
        let Some(Expected::Answer { shape, to_client }) = self.expected.front_mut() else {
            // The connection phase, or a server that speaks unasked.
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
            self.own(out);
        }
    }

    /// Appends the proxy's own answers whose turn it is.
    pub(super) fn own(&mut self, out: &mut Vec<u8>) {
        while let Some(Expected::Own(own)) = self.expected.front() {
            out.extend_from_slice(own);
            self.expected.pop_front();
        }
    }
}

impl Shape {
    /// What follows a packet; `None` if it was the answer's last.
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
                    // After the number of warnings.
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

/// The lower half of an OK's status: after affected rows and the last id.
fn after_two_numbers(payload: &[u8]) -> Option<u8> {
    let mut at = 1;
    for _ in 0..2 {
        at += number(payload.get(at..)?)?.1;
    }
    payload.get(at).copied()
}

/// A length-encoded integer, and how many bytes it takes.
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

    /// What the client gets of these packets of the server.
    fn taken(answers: &mut Answers, server: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        Splitter::default().feed(&server.concat(), |packet| answers.take(packet, &mut out));
        let mut got = Vec::new();
        Splitter::default().feed(&out, |packet| got.push(packet.payload().to_vec()));
        got
    }

    #[test]
    fn an_own_answer_waits_for_those_before_it_and_answers_to_the_proxy_are_left_out() {
        for without_end in [false, true] {
            let mut answers = Answers { without_end, ..Answers::default() };
            // Given a query, a preparation, a ROLLBACK of the proxy's, and an answer of its own
            assert!(answers.expect(command::QUERY, true));
            assert!(!answers.expect(command::CLOSE, true));
            assert!(answers.expect(command::PREPARE, true));
            assert!(answers.expect(command::QUERY, false));
            answers.answer(packets::error(1213, "40001", "again"));
            // When the server answers: two results, the first of which says that more follow
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
            // Then the client gets all but the ROLLBACK's, and the proxy's own in its place
            let got = taken(&mut answers, &server);
            assert_eq!(got.len(), before_rollback + 1, "{got:?}");
            assert!(got.last().unwrap().ends_with(b"#40001again"), "{got:?}");
            assert!(answers.is_idle());
        }
    }
}
