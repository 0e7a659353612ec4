//! Server-sent events, byte-exact (WHATWG HTML §9.2): events are whole however the bytes are cut.

use memchr::memchr2;

use crate::classify::{Class, Failure};

/// The largest event.
pub const MAX_EVENT: usize = 1 << 20;
/// Of a body that holds no events, this much is kept for an explanation.
const MAX_STRAY: usize = 64 << 10;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its `event:` field; empty = a message.
    pub name: &'a [u8],
    /// Its `data:` lines, joined by line feeds.
    pub data: &'a [u8],
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_return: bool,
    begun: bool,
    stray: Vec<u8>,
}

impl Parser {
    /// Takes the next bytes and calls `handle` for every event that they complete.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut handle: impl FnMut(Event<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                return self.check_size();
            };
            self.after_return = rest[end] == b'\r';
            let (line, tail) = (&rest[..end], &rest[end + 1..]);
            rest = tail;
            if self.line.is_empty() {
                self.take_line(line, &mut handle)?;
            } else {
                self.line.extend_from_slice(line);
                let whole = std::mem::take(&mut self.line);
                self.take_line(&whole, &mut handle)?;
                self.line = whole;
                self.line.clear();
            }
            self.check_size()?;
        }
        Ok(())
    }

    /// The bytes ended: what they left unfinished counts as an event, and it is for `handle` to see whether it is whole.
    pub fn finish(&mut self, mut handle: impl FnMut(Event<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            self.take_line(&last, &mut handle)?;
        }
        self.take_line(b"", &mut handle)
    }

    /// What came instead of events: the beginning of a body that is no stream.
    pub fn stray(&self) -> &[u8] {
        &self.stray
    }

    fn take_line(
        &mut self,
        line: &[u8],
        handle: &mut impl FnMut(Event<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let line = if std::mem::replace(&mut self.begun, true) { line } else { line.strip_prefix(BOM).unwrap_or(line) };
        if line.is_empty() {
            return self.dispatch(handle);
        }
        match field(line) {
            (b"data", value) => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            (b"event", value) => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // A comment, or a field that means nothing to us.
            (b"" | b"id" | b"retry", _) => {}
            _ => self.keep_stray(line),
        }
        Ok(())
    }

    fn dispatch(&mut self, handle: &mut impl FnMut(Event<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let outcome = if self.has_data { handle(Event { name: &self.name, data: &self.data }) } else { Ok(()) };
        self.has_data = false;
        self.name.clear();
        self.data.clear();
        outcome
    }

    fn keep_stray(&mut self, line: &[u8]) {
        let room = MAX_STRAY.saturating_sub(self.stray.len());
        self.stray.extend_from_slice(&line[..line.len().min(room)]);
        self.stray.push(b'\n');
        self.stray.truncate(MAX_STRAY);
    }

    fn check_size(&self) -> Result<(), Failure> {
        if self.line.len() + self.data.len() + self.name.len() > MAX_EVENT {
            return Err(Failure::new(Class::Malformed, "the provider sent an event larger than 1 MiB"));
        }
        Ok(())
    }
}

/// Name and value; one space after the colon belongs to neither.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        for chunk in chunks {
            let keep = |event: Event<'_>| {
                found.push((
                    String::from_utf8(event.name.to_vec()).unwrap(),
                    String::from_utf8(event.data.to_vec()).unwrap(),
                ));
                Ok(())
            };
            parser.feed(chunk, keep).unwrap();
        }
        found
    }

    fn data(text: &str) -> Vec<String> {
        events(&[text.as_bytes()]).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn reads_every_kind_of_line_end() {
        for end in ["\n", "\r", "\r\n"] {
            let text = ["data: a", "", "event: error", "data:b", "data:  c", "", ""].join(end);

            assert_eq!(events(&[text.as_bytes()]), [(String::new(), "a".into()), ("error".into(), "b\n c".into())]);
        }
    }

    #[test]
    fn skips_comments_blank_lines_and_the_byte_order_mark() {
        assert_eq!(
            data("\u{feff}data: a\n\n\n\n: OPENROUTER PROCESSING\n\nid: 7\nretry: 10\ndata: b\n\nevent: only\n\n"),
            ["a", "b"]
        );
    }

    #[test]
    fn an_empty_data_line_is_an_event_and_two_are_a_line_feed() {
        assert_eq!(data("data\n\ndata:\ndata\n\n"), ["", "\n"]);
    }

    #[test]
    fn finds_the_same_events_in_single_bytes() {
        let text = "data: é{\"a\":1}\r\n\r\n: x\r\revent: e\ndata: 😀\n\n".as_bytes();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();

        assert_eq!(events(&bytes), events(&[text]));
        assert_eq!(events(&bytes).len(), 2);
    }

    #[test]
    fn an_unfinished_event_only_counts_at_the_end() {
        let mut parser = Parser::default();
        parser.feed(b"data: a\nda", |_| panic!("no event is complete")).unwrap();
        let mut found = Vec::new();

        parser.feed(b"ta: b", |_| panic!("no event is complete")).unwrap();
        parser
            .finish(|event| {
                found.push(event.data.to_vec());
                Ok(())
            })
            .unwrap();

        assert_eq!(found, [b"a\nb".to_vec()]);
    }

    #[test]
    fn refuses_an_event_without_end() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1 << 16];

        let failure = (0..64).find_map(|_| parser.feed(&chunk, |_| Ok(())).err()).unwrap();

        assert_eq!(failure.class, Class::Malformed);
    }

    #[test]
    fn keeps_what_is_no_event() {
        let mut parser = Parser::default();

        parser.feed(b"<html>\n<body>gateway</body>\n", |_| panic!("no event")).unwrap();

        assert_eq!(parser.stray(), b"<html>\n<body>gateway</body>\n");
    }
}
