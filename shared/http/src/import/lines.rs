//! The lines of an import: which bytes are one line, and what a line says. The command line reads files by the same
//! rules.
//!
//! A line is parsed by itself, not as a part of one CSV document. Ids and numbers contain no line breaks, so this loses
//! nothing, an unbalanced quote affects only its own line, and each line keeps its number. Never: a guess. A line says
//! exactly one thing, or it is refused.

use std::collections::{HashMap, hash_map::Entry};

use bespeak::engine::{Define, Limits, ResourceId};

/// The names of the columns, on a header line.
const COLUMNS: [&[u8]; 2] = [b"resource_id", b"total_stock"];
/// The longest resource id that a refusal repeats, in bytes. No longer one is valid.
const SHOWN_MAX: usize = ResourceId::LENGTH_MAX;

/// What a line of an import says.
#[derive(Debug)]
pub enum ImportLine {
    /// Nothing: it is empty or a comment, or it names the columns before all other lines.
    Nothing,
    /// The total of a resource that no earlier line names.
    Total(Define),
    /// It is not valid.
    Wrong {
        /// The resource, if the line names one.
        resource_id: Option<String>,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// Reads the lines of an import, each with its number from 1. Its memory is bounded by the size of the text: up to 25
/// bytes for each resource.
pub struct ImportLines<'a> {
    lines: Lines<'a>,
    limits: &'a Limits,
    may_be_header: bool,
    /// The line of each resource so far.
    seen: HashMap<&'a [u8], u64>,
}

impl<'a> ImportLines<'a> {
    /// The lines of a text, within these limits.
    pub fn of(csv: &'a [u8], limits: &'a Limits) -> Self {
        Self { lines: Lines::of(csv), limits, may_be_header: true, seen: HashMap::new() }
    }

    /// The text behind the lines that were read.
    pub fn rest(&self) -> &'a [u8] {
        self.lines.rest
    }

    fn said(&mut self, number: u64, line: Line<'a>) -> ImportLine {
        self.may_be_header &= matches!(line, Line::Nothing);
        match line {
            Line::Nothing | Line::Header => ImportLine::Nothing,
            Line::Wrong(resource_id, problem) => ImportLine::Wrong { resource_id, problem },
            Line::Total(define, id) => match self.seen.entry(id) {
                Entry::Vacant(place) => {
                    place.insert(number);
                    ImportLine::Total(define)
                }
                Entry::Occupied(earlier) => ImportLine::Wrong {
                    problem: format!("{} is on line {} already", define.resource_id, earlier.get()),
                    resource_id: Some(define.resource_id.to_string()),
                },
            },
        }
    }
}

impl Iterator for ImportLines<'_> {
    type Item = (u64, ImportLine);

    fn next(&mut self) -> Option<Self::Item> {
        let (number, line) = self.lines.next()?;
        let line = Line::parse(line, self.may_be_header, self.limits);
        Some((number, self.said(number, line)))
    }
}

/// The lines of a text, with their numbers from 1. A line ends with LF, CR LF or CR, and the last one may lack its end.
struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
}

impl<'a> Lines<'a> {
    fn of(csv: &'a [u8]) -> Self {
        Self { rest: csv.strip_prefix(b"\xef\xbb\xbf").unwrap_or(csv), number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, end) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = end.strip_prefix(b"\r\n").or_else(|| end.get(1..)).unwrap_or_default();
        self.number += 1;
        Some((self.number, line))
    }
}

/// What a line says by itself.
#[derive(Debug)]
enum Line<'a> {
    /// Nothing: it is empty or a comment.
    Nothing,
    /// It names the columns.
    Header,
    /// The total of a resource, and the bytes of the id.
    Total(Define, &'a [u8]),
    /// It is not valid: the resource that it names, and what is wrong.
    Wrong(Option<String>, String),
}

impl<'a> Line<'a> {
    /// Parses a line. `may_be_header` is whether no line before it had fields.
    fn parse(line: &'a [u8], may_be_header: bool, limits: &Limits) -> Self {
        let line = trimmed(line);
        if line.is_empty() || line.starts_with(b"#") {
            return Self::Nothing;
        }
        match fields(line) {
            Ok(fields) if may_be_header && fields == COLUMNS => Self::Header,
            Ok([id, total]) => Self::total(id, total, limits),
            Err(problem) => Self::Wrong(None, problem),
        }
    }

    fn total(id: &'a [u8], total: &[u8], limits: &Limits) -> Self {
        let Ok(text) = std::str::from_utf8(id) else {
            return Self::Wrong(None, "resource_id must be UTF-8".to_owned());
        };
        let wrong = |problem| Self::Wrong((text.len() <= SHOWN_MAX).then(|| text.to_owned()), problem);
        let resource_id = match ResourceId::new("resource_id", text) {
            Ok(id) => id,
            Err(violation) => return wrong(violation.to_string()),
        };
        // `parse` alone would also accept a plus sign.
        let digits =
            std::str::from_utf8(total).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(units) = digits.and_then(|text| text.parse().ok()) else {
            return wrong(format!("total_stock must be a whole number from 0 to {}", limits.total_max));
        };
        match limits.total("total_stock", units) {
            Ok(total) => Self::Total(Define { resource_id, total, fulfilment: None }, id),
            Err(violation) => wrong(violation.to_string()),
        }
    }
}

/// Splits a line into its two fields. A field may stand in quotes, but neither an id nor a number has one inside.
fn fields(line: &[u8]) -> Result<[&[u8]; 2], String> {
    let mut fields = [&b""[..]; 2];
    let mut count = 0;
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (field, after) = field(trimmed(text))?;
        if let Some(place) = fields.get_mut(count) {
            *place = field;
        }
        count += 1;
        rest = after;
    }
    if count == 2 {
        return Ok(fields);
    }
    let noun = if count == 1 { "field" } else { "fields" };
    Err(format!("the line must be resource_id,total_stock, got {count} {noun}"))
}

/// The first field, and what follows the comma behind it, if there is one.
fn field(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), String> {
    let comma = |text: &[u8]| text.iter().position(|byte| *byte == b',');
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = comma(text).unwrap_or(text.len());
        let (field, after) = text.split_at(end);
        if field.contains(&b'"') {
            return Err("the line has a quote inside a field that does not begin with one".to_owned());
        }
        return Ok((trimmed(field), after.get(1..)));
    };
    let Some(end) = quoted.iter().position(|byte| *byte == b'"') else {
        return Err("the line has an opening quote without a closing quote".to_owned());
    };
    let (field, after) = quoted.split_at(end);
    match trimmed(&after[1..]) {
        [] => Ok((field, None)),
        [b',', after @ ..] => Ok((field, Some(after))),
        _ => Err("the line has text behind a closing quote".to_owned()),
    }
}

/// Without the spaces and tabs at both ends.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(csv: &str) -> Vec<(u64, &str)> {
        Lines::of(csv.as_bytes()).map(|(number, line)| (number, std::str::from_utf8(line).unwrap())).collect()
    }

    #[test]
    fn a_line_ends_with_lf_crlf_or_cr() {
        let three = vec![(1, "a"), (2, "b"), (3, "c")];
        for csv in ["a\nb\nc", "a\r\nb\r\nc\r\n", "a\rb\rc\r", "a\nb\r\nc", "a\rb\nc\n", "\u{feff}a\rb\r\nc"]
        {
            assert_eq!(lines(csv), three, "{csv:?}");
        }
        assert_eq!(lines("a\r\r\nb\n\nc"), [(1, "a"), (2, ""), (3, "b"), (4, ""), (5, "c")]);
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n"), [(1, "")]);
        assert_eq!(lines("\u{feff}\u{feff}a"), [(1, "\u{feff}a")], "only one mark begins a file");
    }

    fn said(line: &[u8]) -> String {
        match Line::parse(line, true, &Limits::default()) {
            Line::Nothing => "nothing".to_owned(),
            Line::Header => "header".to_owned(),
            Line::Total(define, bytes) => {
                assert_eq!(define.resource_id.as_str().as_bytes(), bytes);
                format!("{}={}", define.resource_id, define.total)
            }
            Line::Wrong(_, problem) => problem,
        }
    }

    #[test]
    fn a_line_is_applied_as_it_is_written() {
        for (line, total) in [
            ("a,1", "a=1"),
            (" a\t, 1 ", "a=1"),
            ("\"a\",\"1\"", "a=1"),
            (" \"a\" , \"1\" ", "a=1"),
            ("a,0", "a=0"),
            ("a,007", "a=7"),
            ("a,9007199254740991", "a=9007199254740991"),
            ("resource_id,total_stock", "header"),
            ("\"resource_id\", total_stock", "header"),
            ("", "nothing"),
            (" \t", "nothing"),
            ("# a,1", "nothing"),
            (" #", "nothing"),
        ] {
            assert_eq!(said(line.as_bytes()), total, "{line:?}");
        }
    }

    #[test]
    fn each_line_is_nothing_a_total_or_wrong() {
        let csv =
            "\u{feff}# first\r\n\nresource_id,total_stock\ra,1\n\"a\",2\nb,x\nb,3\nresource_id,total_stock";
        let limits = Limits::default();
        let said = ImportLines::of(csv.as_bytes(), &limits).map(|(number, line)| match line {
            ImportLine::Nothing => format!("{number}: nothing"),
            ImportLine::Total(define) => format!("{number}: {}={}", define.resource_id, define.total),
            ImportLine::Wrong { problem, .. } => format!("{number}: {problem}"),
        });
        let number = "total_stock must be a whole number from 0 to 9007199254740991";
        let expected = ["1: nothing", "2: nothing", "3: nothing", "4: a=1", "5: a is on line 4 already"];
        let rest = [format!("6: {number}"), "7: b=3".to_owned(), format!("8: {number}")];
        assert_eq!(said.collect::<Vec<_>>(), [&expected.map(str::to_owned)[..], &rest].concat());
    }

    #[test]
    fn a_line_that_says_anything_else_is_refused() {
        for (line, problem) in [
            (&b"a"[..], "got 1 field"),
            (b"a,1,", "got 3 fields"),
            (b",1", "resource_id must have 1 to 128 characters"),
            (b",", "resource_id must have 1 to 128 characters"),
            (b"a,", "must be a whole number"),
            (b"a,+1", "must be a whole number"),
            (b"a,-1", "must be a whole number"),
            (b"a,1.0", "must be a whole number"),
            (b"a,1e2", "must be a whole number"),
            (b"a,1 2", "must be a whole number"),
            (b"a,18446744073709551616", "must be a whole number"),
            (b"a,9007199254740992", "must be 0 to"),
            (b"a;1", "got 1 field"),
            (b"a\t1", "got 1 field"),
            (b"\"a,1", "an opening quote without a closing quote"),
            (b"a\",1", "a quote inside a field"),
            (b"\"a\"b\"c\",1", "text behind a closing quote"),
            (b"\"a\"\"b\",1", "text behind a closing quote"),
            (b"\" a\",1", "must not contain ' '"),
            (b"a b,1", "must not contain ' '"),
            (b"a\0,1", "must not contain '\\0'"),
            (b"\0", "got 1 field"),
            (b"a\x0c,1", "must not contain '\\u{c}'"),
            (b"\xff\xfe,1", "resource_id must be UTF-8"),
            (b"a,\xff", "must be a whole number"),
            (b"a//b,1", "must not have an empty"),
            (b"Resource_ID,total_stock", "must be a whole number"),
        ] {
            let said = said(line);
            assert!(said.contains(problem), "{:?}: {said}", line.escape_ascii().to_string());
        }
        let header = Line::parse(b"resource_id,total_stock", false, &Limits::default());
        assert!(matches!(header, Line::Wrong(..)), "a header is only at the beginning");
        let long = format!("{},1", "x".repeat(1_000_000));
        assert!(matches!(Line::parse(long.as_bytes(), true, &Limits::default()), Line::Wrong(None, _)));
    }
}
