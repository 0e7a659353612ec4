//! Questions about permissions: `ai.inference.run AND (keys.key.read OR keys.key.write)`. Pure.
//!
//! ```text
//! or   = and ("OR" and)*
//! and  = atom ("AND" atom)*
//! atom = permission | "(" or ")"
//! ```

use std::iter::Peekable;
use std::vec;

use manifold_core::{Error, Result};

use super::is_permission;

/// Permissions in one question.
const MAX_ATOMS: usize = 100;
/// Brackets inside brackets.
const MAX_DEPTH: usize = 10;
/// Bytes of a question.
const MAX_LENGTH: usize = 16 << 10;

/// Whether who is allowed what `allows` says fulfils the query. All of it is read, whatever its beginning tells.
///
/// # Errors
/// `QUERY_INVALID` for what is no query, or too long a one.
pub fn holds(query: &str, allows: impl Fn(&str) -> bool) -> Result<bool> {
    if query.len() > MAX_LENGTH {
        return Err(wrong("is too long"));
    }
    let mut reader = Reader { words: words(query).into_iter().peekable(), n_atoms: 0, depth: 0, allows };
    let held = reader.or()?;
    match reader.words.next() {
        None => Ok(held),
        Some(_) => Err(wrong("goes on after its end: put AND or OR between permissions")),
    }
}

struct Reader<'q, F> {
    words: Peekable<vec::IntoIter<&'q str>>,
    n_atoms: usize,
    depth: usize,
    allows: F,
}

impl<F: Fn(&str) -> bool> Reader<'_, F> {
    fn or(&mut self) -> Result<bool> {
        let mut held = self.and()?;
        while self.words.next_if_eq(&"OR").is_some() {
            held |= self.and()?;
        }
        Ok(held)
    }

    fn and(&mut self) -> Result<bool> {
        let mut held = self.atom()?;
        while self.words.next_if_eq(&"AND").is_some() {
            held &= self.atom()?;
        }
        Ok(held)
    }

    fn atom(&mut self) -> Result<bool> {
        match self.words.next() {
            Some("(") if self.depth == MAX_DEPTH => Err(wrong("has more than 10 brackets inside each other")),
            Some("(") => {
                self.depth += 1;
                let held = self.or()?;
                self.depth -= 1;
                let closed = self.words.next_if_eq(&")").is_some();
                if closed { Ok(held) } else { Err(wrong("misses a closing bracket")) }
            }
            Some(_) if self.n_atoms == MAX_ATOMS => Err(wrong("names more than 100 permissions")),
            Some(word) if is_permission(word) => {
                self.n_atoms += 1;
                Ok((self.allows)(word))
            }
            _ => Err(wrong("has something else where a permission such as ai.inference.run should be")),
        }
    }
}

/// Words and brackets.
fn words(query: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for mut rest in query.split_ascii_whitespace() {
        while let Some(at) = rest.find(['(', ')']) {
            words.extend([&rest[..at], &rest[at..=at]].into_iter().filter(|word| !word.is_empty()));
            rest = &rest[at + 1..];
        }
        words.extend(Some(rest).filter(|word| !word.is_empty()));
    }
    words
}

fn wrong(what: &str) -> Error {
    Error::invalid("QUERY_INVALID", format!("the query of permissions {what}")).at("permissions")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(query: &str) -> Option<bool> {
        holds(query, |permission| permission.ends_with(".yes")).ok()
    }

    #[test]
    fn and_binds_stronger_than_or_and_brackets_strongest() {
        for (query, held) in [
            ("a.b.yes", true),
            ("a.b.no", false),
            ("a.b.yes AND a.b.no", false),
            ("a.b.yes OR a.b.no", true),
            ("a.b.yes OR a.b.no AND a.b.no", true),
            ("(a.b.yes OR a.b.no) AND a.b.no", false),
            ("a.b.no AND a.b.no OR a.b.yes", true),
            ("((a.b.yes))AND(a.b.no OR a.b.yes)", true),
            (" a.b.no\nOR\ta.b.yes ", true),
        ] {
            assert_eq!(ask(query), Some(held), "{query}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for query in [
            "",
            "  ",
            "()",
            "(",
            ")",
            "a.b.yes)",
            "(a.b.yes",
            "a.b.yes a.b.no",
            "a.b.yes AND",
            "OR a.b.yes",
            "a.b.yes and a.b.no",
            "a.b.yes AND OR a.b.no",
            "a.b",
            "A.b.yes",
            "NOT a.b.yes",
            "a.b.yes; DROP TABLE api_key",
        ] {
            assert_eq!(ask(query), None, "{query}");
        }
    }

    #[test]
    fn queries_are_bounded() {
        let many = |n: usize| vec!["a.b.yes"; n].join(" AND ");
        let deep = |n: usize| format!("{}a.b.yes{}", "(".repeat(n), ")".repeat(n));

        assert_eq!((ask(&many(100)), ask(&many(101))), (Some(true), None));
        assert_eq!((ask(&deep(10)), ask(&deep(11))), (Some(true), None));
        assert_eq!(ask(&"(".repeat(1 << 20)), None);
        assert_eq!(ask(&format!("a.b.yes{}", " ".repeat(MAX_LENGTH))), None);
    }

    /// A query and what it must answer.
    fn query(depth: u32) -> BoxedStrategy<(String, bool)> {
        let leaf = prop_oneof![Just(("a.b.yes".to_owned(), true)), Just(("a.b.no".to_owned(), false))].boxed();
        if depth == 0 {
            return leaf;
        }
        let parts = || prop::collection::vec(query(depth - 1), 1..4);
        let join = |parts: Vec<(String, bool)>, word: &str| {
            let texts: Vec<_> = parts.iter().map(|(text, _)| format!("({text})")).collect();
            texts.join(&format!(" {word} "))
        };
        prop_oneof![
            leaf,
            parts().prop_map(move |parts| (join(parts.clone(), "AND"), parts.iter().all(|(_, held)| *held))),
            parts().prop_map(move |parts| (join(parts.clone(), "OR"), parts.iter().any(|(_, held)| *held))),
        ]
        .boxed()
    }

    proptest! {
        #[test]
        fn a_query_answers_as_its_parts_do((text, held) in query(3)) {
            prop_assert_eq!(ask(&text), Some(held), "{}", text);
        }

        #[test]
        fn no_text_is_too_strange(text in "[ab.()ANDOR \\PC]{0,200}") {
            let _ = ask(&text);
        }
    }
}
