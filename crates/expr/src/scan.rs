//! A look at an expression before any parser sees it: a parser calls itself for brackets and some operators, so what is long
//! or deep could end the process; and loops (CEL's macros) multiply what they are given.

/// Longest expression, in bytes.
pub const MAX_BYTES: usize = 4 << 10;
/// Most words, numbers, texts and signs.
const MAX_TOKENS: usize = 512;
/// Deepest nesting of brackets, and of what else has parts.
pub const MAX_DEPTH: usize = 64;

/// What is wrong with the expression, if anything: `functions` are those that it may call.
pub fn fault(text: &str, functions: &[&str]) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!("it is longer than {MAX_BYTES} bytes"));
    }
    let (mut tokens, mut depth) = (0, 0usize);
    let mut rest = text;
    while let Some(first) = rest.trim_start().chars().next() {
        rest = rest.trim_start();
        let Some(token) = token(rest, first) else { return Some("a text in it does not end".to_owned()) };
        tokens += 1;
        match first {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if tokens > MAX_TOKENS || depth > MAX_DEPTH {
            return Some(format!(
                "it has more than {MAX_TOKENS} words and signs, or more than {MAX_DEPTH} brackets in each other"
            ));
        }
        let after = rest[token.len()..].trim_start();
        if is_word(first) && after.starts_with('(') && !functions.contains(&token) {
            return Some(format!("there is no function {token}; there are {}", functions.join(", ")));
        }
        rest = &rest[token.len()..];
    }
    None
}

/// The token that the text begins with; None = a quote without an end.
fn token(text: &str, first: char) -> Option<&str> {
    let raw = text.len() > 1 && matches!(first, 'r' | 'R' | 'b' | 'B') && text[1..].starts_with(['"', '\'']);
    if matches!(first, '"' | '\'') || raw {
        return quoted(text, usize::from(raw), matches!(first, 'r' | 'R')).map(|end| &text[..end]);
    }
    let end = match first {
        first if is_word(first) => text.find(|letter: char| !is_word(letter)).unwrap_or(text.len()),
        first => first.len_utf8(),
    };
    Some(&text[..end])
}

/// Where the text ends whose quote stands at `start`.
fn quoted(text: &str, start: usize, raw: bool) -> Option<usize> {
    let quote = &text[start..=start];
    let triple = quote.repeat(3);
    let quote = if text[start..].starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = start + quote.len();
    while at < text.len() {
        if text[at..].starts_with(quote) {
            return Some(at + quote.len());
        }
        let letter = text[at..].chars().next()?;
        at += letter.len_utf8();
        if letter == '\\' && !raw {
            at += text[at..].chars().next()?.len_utf8();
        }
    }
    None
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTIONS: [&str; 2] = ["size", "startsWith"];

    #[test]
    fn plain_expressions_pass() {
        for text in [
            "",
            "request.ip == '10.0.0.1' && size(principal.id) > 3",
            "principal.id.startsWith(\"all(\")",
            r#"'it\'s ' + r"\" + """a "b" c""" == "ü""#,
            "a in [1, 2.5, -3]",
        ] {
            assert_eq!(fault(text, &FUNCTIONS), None, "{text}");
        }
    }

    #[test]
    fn what_is_long_deep_or_loops_is_refused() {
        for (text, what) in [
            ("a".repeat(MAX_BYTES + 1), "longer"),
            (vec!["1"; 257].join("+"), "512 words"),
            ("(".repeat(65), "64 brackets"),
            ("[1].map(a, a + a)".to_owned(), "no function map"),
            ("[1].all (a, true)".to_owned(), "no function all"),
            ("'abc".to_owned(), "does not end"),
            ("'abc\\'".to_owned(), "does not end"),
        ] {
            let fault = fault(&text, &FUNCTIONS).unwrap_or_default();
            assert!(fault.contains(what), "{text}: {fault}");
        }
    }
}
