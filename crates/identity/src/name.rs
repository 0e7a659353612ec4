//! What people call keys and themselves. Pure.

use manifold_core::{Error, Result};

const MAX: usize = 100;

/// A name without blanks around it: 1 to 100 characters, none of them a control character.
///
/// # Errors
/// `NAME_INVALID`.
pub fn read(text: &str) -> Result<String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX || text.chars().any(char::is_control) {
        let message = format!("a name has 1 to {MAX} characters and no control characters");
        return Err(Error::invalid("NAME_INVALID", message).at("name"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_something_to_read_without_control_characters_anywhere() {
        for (text, name) in [
            (" Ada ", Some("Ada")),
            ("Ada Lovelace", Some("Ada Lovelace")),
            ("", None),
            (" ", None),
            ("A\tB", None),
            ("\tAda", None),
            ("Ada\n", None),
        ] {
            assert_eq!(read(text).ok().as_deref(), name, "{text:?}");
        }
    }
}
