//! Statements as text, and packets of statements.
//!
//! A prepared statement of MySQL takes one round trip each, and a fixed number of rows. Text takes a whole packet of
//! statements in one round trip, whatever their sizes, and prepares nothing. It is safe because only `&'static str`
//! is written as it is; every value goes through a method that writes a literal. See ADR 7.

use std::fmt::Write;

/// The largest packet in bytes, unless a single row is larger: far below every server's `max_allowed_packet`.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// The largest number of elements in one list: far below the optimizer's limit for ranges of an index.
pub(super) const LIST_MAX: usize = 2_000;

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Sql(String);

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Appends SQL.
    pub(super) fn push(mut self, text: &'static str) -> Self {
        self.0.push_str(text);
        self
    }

    /// Appends a whole number.
    pub(super) fn integer(mut self, value: i64) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Appends a count, which is far below 2^63: stored numbers are at most 2^53.
    pub(super) fn unsigned(self, value: u64) -> Self {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Appends bytes.
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

    /// Appends text. Quotes are doubled, which is safe in every SQL mode. Backslashes are doubled too; sessions of
    /// this store, which set their own SQL mode, read two as one.
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

    /// Appends text or NULL.
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

/// Statements that are sent in as few packets as possible.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    statements: Vec<Sql>,
}

impl Script {
    /// Appends a statement, and returns the place of its result.
    pub(super) fn add(&mut self, statement: Sql) -> usize {
        self.statements.push(statement);
        self.statements.len() - 1
    }

    /// Appends `head (element, ..) tail`, in several statements if the list is too long for one, and returns the
    /// places of their results. The elements keep their order.
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

    /// Appends `head (row), (row), ..`, in several statements if the rows are too many for one packet. Returns the
    /// place of each result, and how many rows each statement inserts.
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

    /// The same statements between START TRANSACTION READ WRITE and COMMIT: their results move by one place.
    pub(super) fn in_transaction(mut self) -> Self {
        self.statements.insert(0, Sql::new("START TRANSACTION READ WRITE"));
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
    fn statements_that_exceed_one_packet_are_sent_in_several() {
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
