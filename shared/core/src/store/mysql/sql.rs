//! Statements as text, and packets of them.
//!
//! MySQL's prepared statements take one statement a round trip, and a fixed number of rows each. Text takes a whole
//! packet of statements in one round trip, whatever their sizes, and prepares nothing. What keeps it safe: only
//! `&'static str` goes in as it is; every value goes through one of the methods that write a literal. See ADR 7.

use std::fmt::Write;

/// Bytes of one packet, at the most, unless a single row is larger: far below every server's `max_allowed_packet`.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// Elements of one list: far below what the optimizer takes as ranges of an index.
pub(super) const LIST_MAX: usize = 2_000;

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Sql(String);

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Adds SQL.
    pub(super) fn push(mut self, text: &'static str) -> Self {
        self.0.push_str(text);
        self
    }

    /// Adds a whole number.
    pub(super) fn integer(mut self, value: i64) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Adds a count, which is far below 2^63: stored numbers are at most 2^53.
    pub(super) fn unsigned(self, value: u64) -> Self {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Adds bytes.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.reserve(2 * bytes.len() + 3);
        self.0.push_str("x'");
        for byte in bytes {
            self.0.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.0.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self.0.push('\'');
        self
    }

    /// Adds text. Quotes are doubled, which ends no literal in any SQL mode; backslashes too, which the sessions of this
    /// store (they set their own SQL mode) read as one.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.reserve(text.len() + 2);
        self.0.push('\'');
        let mut rest = text;
        while let Some(at) = rest.find(['\'', '\\']) {
            let (plain, special) = rest.split_at(at);
            self.0.push_str(plain);
            let (special, others) = special.split_at(1);
            self.0.push_str(special);
            self.0.push_str(special);
            rest = others;
        }
        self.0.push_str(rest);
        self.0.push('\'');
        self
    }

    /// Adds text or NULL.
    pub(super) fn optional_text(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.push("NULL"),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Statements that are sent in as few packets as they fit in.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    statements: Vec<Sql>,
}

impl Script {
    /// Adds a statement; its answer will be at the returned place.
    pub(super) fn add(&mut self, statement: Sql) -> usize {
        self.statements.push(statement);
        self.statements.len() - 1
    }

    /// Adds `head (element, ..) tail`, as often as the list is too long for one statement; says where their answers will
    /// be. The elements keep their order.
    pub(super) fn add_lists<T>(
        &mut self,
        elements: impl IntoIterator<Item = T>,
        element: impl Fn(Sql, T) -> Sql,
        head: impl Fn() -> Sql,
        tail: &'static str,
    ) -> Vec<usize> {
        let mut elements = elements.into_iter().peekable();
        let mut places = Vec::new();
        while elements.peek().is_some() {
            let mut statement = head().push("(");
            for (n, value) in elements.by_ref().take(LIST_MAX).enumerate() {
                statement = element(if n == 0 { statement } else { statement.push(", ") }, value);
            }
            places.push(self.add(statement.push(")").push(tail)));
        }
        places
    }

    /// Adds `head (row), (row), ..`, as often as the rows are too many for one packet; says where their answers will be,
    /// and how many rows each inserts.
    pub(super) fn add_rows<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        row: impl Fn(Sql, T) -> Sql,
        head: &'static str,
    ) -> Vec<(usize, u64)> {
        self.add_rows_then(rows, row, head, "")
    }

    /// As [`Script::add_rows`], with `tail` after the rows of each statement.
    pub(super) fn add_rows_then<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        row: impl Fn(Sql, T) -> Sql,
        head: &'static str,
        tail: &'static str,
    ) -> Vec<(usize, u64)> {
        let mut rows = rows.into_iter().peekable();
        let mut places = Vec::new();
        while rows.peek().is_some() {
            let mut statement = Sql::new(head);
            let mut count = 0;
            while statement.len() < PACKET_BYTES_MAX / 2
                && let Some(values) = rows.next()
            {
                statement = row(statement.push(if count == 0 { " (" } else { ", (" }), values).push(")");
                count += 1;
            }
            places.push((self.add(statement.push(tail)), count));
        }
        places
    }

    /// The same statements between START TRANSACTION and COMMIT: their answers are one place further.
    pub(super) fn in_transaction(mut self) -> Self {
        self.statements.insert(0, Sql::new("START TRANSACTION"));
        self.add(Sql::new("COMMIT"));
        self
    }

    /// The packets, each with the number of its statements.
    pub(super) fn into_packets(self) -> Vec<(String, usize)> {
        let mut packets: Vec<(String, usize)> = Vec::new();
        for Sql(statement) in self.statements {
            match packets.last_mut() {
                Some((packet, count)) if packet.len() + statement.len() < PACKET_BYTES_MAX => {
                    packet.push_str("; ");
                    packet.push_str(&statement);
                    *count += 1;
                }
                _ => packets.push((statement, 1)),
            }
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_cannot_end_early() {
        let written = Sql::new("").text(r"a'b\c\'; DROP TABLE x; -- ").0;
        assert_eq!(written, r"'a''b\\c\\''; DROP TABLE x; -- '");
    }

    #[test]
    fn what_is_too_long_for_one_packet_is_sent_in_several() {
        let mut script = Script::default();
        let long = "x".repeat(PACKET_BYTES_MAX / 4);
        let rows = script.add_rows(0..9, |sql, n| sql.integer(n).push(", ").text(&long), "INSERT");
        assert_eq!(rows.iter().map(|(_, rows)| rows).sum::<u64>(), 9);
        let lists = script.add_lists(0..5_000, Sql::integer, || Sql::new("SELECT"), "");
        assert_eq!(lists.len(), 3);
        let packets = script.into_packets();
        assert_eq!(packets.iter().map(|(_, statements)| statements).sum::<usize>(), rows.len() + lists.len());
        assert!(packets.iter().all(|(text, _)| text.len() < 2 * PACKET_BYTES_MAX));
    }
}
