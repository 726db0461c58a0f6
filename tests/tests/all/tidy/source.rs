//! A tokenizer for Rust, as far as the rules need one: identifiers, punctuation, strings, documentation, each with
//! its line.

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Identifier(String),
    Punctuation(char),
    /// The content of a string literal, as written.
    Text(String),
    /// One line of documentation; `true` for the head of a module (`//!`).
    Documentation(String, bool),
}

/// A token and the number of its line.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is(&self, sign: char) -> bool {
        self.kind == Kind::Punctuation(sign)
    }

    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Identifier(name) => Some(name),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

/// The tokens of a file, without comments, numbers and character literals.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { rest: text, line: 1, tokens: Vec::new() };
    while let Some(first) = reader.rest.chars().next() {
        reader.read(first);
    }
    reader.tokens
}

impl Reader<'_> {
    fn read(&mut self, first: char) {
        if let Some(comment) = self.rest.strip_prefix("//") {
            let line = comment.lines().next().unwrap_or_default();
            let (outer, inner) =
                (line.strip_prefix('/').filter(|rest| !rest.starts_with('/')), line.strip_prefix('!'));
            if let Some(said) = inner.or(outer) {
                let (said, is_head) = (said.trim().to_owned(), inner.is_some());
                self.push(Kind::Documentation(said, is_head));
            }
            self.skip(line.len() + 2);
        } else if self.rest.starts_with("/*") {
            self.skip_block_comment();
        } else if let Some(raw) = raw_string(self.rest) {
            self.push(Kind::Text(raw.content.to_owned()));
            self.skip(raw.length);
        } else if first == '"' || self.rest.starts_with("b\"") || self.rest.starts_with("c\"") {
            let open = usize::from(first != '"');
            let length = plain_string(&self.rest[open..]);
            self.push(Kind::Text(self.rest[open + 1..open + length - 1].to_owned()));
            self.skip(open + length);
        } else if first == '\'' {
            self.skip(character_or_lifetime(self.rest));
        } else if first.is_alphanumeric() || first == '_' {
            let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
            if !first.is_numeric() {
                self.push(Kind::Identifier(self.rest[..end].to_owned()));
            }
            self.skip(end);
        } else {
            if !first.is_whitespace() {
                self.push(Kind::Punctuation(first));
            }
            self.skip(first.len_utf8());
        }
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    fn skip_block_comment(&mut self) {
        let (mut depth, mut at) = (0_usize, 0);
        while at < self.rest.len() {
            if self.rest[at..].starts_with("/*") {
                depth += 1;
                at += 2;
            } else if self.rest[at..].starts_with("*/") {
                depth -= 1;
                at += 2;
            } else {
                at += self.rest[at..].chars().next().map_or(1, char::len_utf8);
            }
            if depth == 0 {
                break;
            }
        }
        self.skip(at);
    }
}

struct Raw<'a> {
    content: &'a str,
    length: usize,
}

/// `r"..."`, `r#"..."#`, `br"..."`: nothing in it is an escape.
fn raw_string(text: &str) -> Option<Raw<'_>> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let open = prefix.len() + hashes;
    let content = text[open..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&close)?;
    Some(Raw { content: &content[..end], length: open + 1 + end + close.len() })
}

/// The bytes of a string literal, its quotes included.
fn plain_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The bytes of `'c'`, or the one of the tick that begins a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            text[3..].find('\'').map_or(1, |end| 3 + end + 1)
        }
        Some((_, c)) if text[1 + c.len_utf8()..].starts_with('\'') => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// The tokens without items that are compiled for tests only.
pub(super) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// `#[cfg(test)]` or `#[test]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let said: Vec<String> = tokens.iter().take(7).map(shown).collect();
    said.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"].map(str::to_owned))
        || said.starts_with(&["#", "[", "test", "]"].map(str::to_owned))
}

fn shown(token: &Token) -> String {
    match &token.kind {
        Kind::Identifier(name) => name.clone(),
        Kind::Punctuation(sign) => sign.to_string(),
        Kind::Text(_) | Kind::Documentation(..) => String::new(),
    }
}

/// Behind the item whose attributes begin at `at`: its body, or its semicolon.
fn end_of_item(tokens: &[Token], at: usize) -> usize {
    let (mut depth, mut brackets) = (0_usize, 0_usize);
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Punctuation('[' | '(') => brackets += 1,
            Kind::Punctuation(']' | ')') => brackets = brackets.saturating_sub(1),
            Kind::Punctuation('{') => depth += 1,
            Kind::Punctuation('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            Kind::Punctuation(';') if depth == 0 && brackets == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// A function: its name, its first line and the number of its lines.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// The functions of a file that have a body.
pub(super) fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let (Some("fn"), Some(name)) = (pair[0].word(), pair[1].word()) else { continue };
        let end = end_of_item(tokens, at);
        if end > 0 && tokens[end - 1].is('}') {
            let (line, last) = (pair[0].line, tokens[end - 1].line);
            found.push(Function { name: name.to_owned(), line, lines: last - line + 1 });
        }
    }
    found
}

#[test]
fn the_tokenizer_reads_rust() {
    let text = "//! Head.\n/* { /* } */ */ fn a<'x>() { let c = '{'; let s = \"}\\\"\"; }\n\
        #[cfg(test)]\nmod tests { use crate::x; }\nconst R: &str = r#\"a\"b\"#;";
    let all = tokens(text);
    let functions = functions(&all);
    assert_eq!((functions[0].name.as_str(), functions[0].line, functions[0].lines), ("a", 2, 1));
    let texts: Vec<_> = all
        .iter()
        .filter_map(|token| if let Kind::Text(text) = &token.kind { Some(text) } else { None })
        .collect();
    assert_eq!(texts, ["}\\\"", "a\"b"]);
    assert!(!without_tests(&all).iter().any(|token| token.word() == Some("crate")));
    assert!(all.iter().any(|token| token.word() == Some("crate")));
}
