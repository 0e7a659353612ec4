//! Lines of JSON, byte-exact: lines are whole however the bytes are cut.

use memchr::memchr;

use crate::classify::{Class, Failure};

/// The largest line.
pub const MAX_LINE: usize = 1 << 20;

/// Cuts bytes into lines. Blank lines are skipped, a carriage return before the line feed is JSON's own white space.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
}

impl Parser {
    /// Takes the next bytes and calls `handle` for every line that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut handle: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, tail) = (&rest[..end], &rest[end + 1..]);
            rest = tail;
            if self.line.is_empty() {
                check_size(line.len())?;
                take(line, &mut handle)?;
            } else {
                check_size(self.line.len() + line.len())?;
                self.line.extend_from_slice(line);
                let outcome = take(&self.line, &mut handle);
                self.line.clear();
                outcome?;
            }
        }
        check_size(self.line.len() + rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// The bytes ended: a last line without line feed counts, and it is for `handle` to see whether it is whole.
    pub fn finish(&mut self, mut handle: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        take(&std::mem::take(&mut self.line), &mut handle)
    }
}

fn take(line: &[u8], handle: &mut impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    if line.trim_ascii().is_empty() { Ok(()) } else { handle(line) }
}

fn check_size(length: usize) -> Result<(), Failure> {
    if length > MAX_LINE {
        return Err(Failure::new(Class::Malformed, "the provider sent a line larger than 1 MiB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser
                .feed(chunk, |line| {
                    found.push(String::from_utf8_lossy(line).into_owned());
                    Ok(())
                })
                .unwrap();
        }
        parser
            .finish(|line| {
                found.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn finds_the_same_lines_in_single_bytes() {
        let text = "{\"é\":1}\r\n\n{\"b\":2}\n{\"c\":3}".as_bytes();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();

        assert_eq!(lines(&[text]), ["{\"é\":1}\r", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(lines(&bytes), lines(&[text]));
    }

    #[test]
    fn refuses_a_line_without_end() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1 << 16];

        let failure = (0..64).find_map(|_| parser.feed(&chunk, |_| Ok(())).err()).unwrap();

        assert_eq!(failure.class, Class::Malformed);
    }
}
