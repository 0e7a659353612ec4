//! Names: environment variables that are settings, keys that hold secrets, and the key somebody probably meant.

const PREFIX: &str = "MANIFOLD_";

/// Names of client programs and of flags that are read elsewhere.
const FOREIGN: [&str; 7] = ["API_KEY", "BASE_URL", "PROFILE", "TENANT", "LOG", "OUTPUT", "NO_INPUT"];

/// The key that an environment variable sets. None for foreign names, for test hooks and for what container platforms
/// inject for a service called manifold.
pub(super) fn key_of(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix(PREFIX)?;
    if rest.is_empty() || rest.starts_with("TEST__") || FOREIGN.contains(&rest) || is_injected(rest) {
        return None;
    }
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

/// The environment variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn is_injected(rest: &str) -> bool {
    let name = format!("_{rest}");
    let ends = name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT");
    !rest.contains("__") && (ends || name.contains("_SERVICE_PORT") || name.contains("_PORT_"))
}

/// Whether the value of a key must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    ["key", "secret", "password", "token"].iter().any(|word| last == *word || last.ends_with(&format!("_{word}")))
}

/// The known name closest to a misspelt one, if it is close at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.len() / 3).max(2);
    let scored = known.into_iter().map(|candidate| (distance(name, candidate), candidate));
    scored.filter(|(score, _)| *score <= bound).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_keys_and_platform_noise_names_none() {
        for (variable, key) in [
            ("MANIFOLD_DATA_DIR", Some("data_dir")),
            ("MANIFOLD_EDGE__LISTEN", Some("edge.listen")),
            ("MANIFOLD_SMTP__PORT", Some("smtp.port")),
            ("MANIFOLD_TYPO", Some("typo")),
            ("MANIFOLD_API_KEY", None),
            ("MANIFOLD_TEST__CLOCK", None),
            ("MANIFOLD_PORT", None),
            ("MANIFOLD_EDGE_SERVICE_HOST", None),
            ("MANIFOLD_EDGE_SERVICE_PORT_HTTP", None),
            ("MANIFOLD_EDGE_PORT_8080_TCP_ADDR", None),
            ("PATH", None),
        ] {
            assert_eq!(key_of(variable).as_deref(), key, "{variable}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("lisen", ["listen", "drain"]), Some("listen"));
        assert_eq!(nearest("colour", ["listen", "drain"]), None);
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for (key, secret) in [
            ("ai.providers.groq.api_key", true),
            ("mesh.secret", true),
            ("edge.max_tokens", false),
            ("data_dir", false),
        ] {
            assert_eq!(is_secret(key), secret, "{key}");
        }
    }
}
