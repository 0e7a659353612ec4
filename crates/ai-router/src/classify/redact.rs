//! Takes what must not leave the house out of a provider's text: credentials, addresses, and more text than anyone reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HIDDEN: &str = "***";
const MAX_CHARS: usize = 600;
/// A run of letters and digits this long that holds both is taken for a credential or an account.
const KEY_LENGTH: usize = 24;
/// How credentials begin.
const KEY_PREFIXES: &[&str] =
    &["sk-", "sk_", "gsk_", "AIza", "AQ.", "hf_", "xai-", "nvapi-", "key-", "pk-", "csk-", "r8_", "ya29.", "eyJ"];
/// Last labels of host names.
const HOST_ENDINGS: &[&str] = &[
    "com",
    "ai",
    "org",
    "io",
    "net",
    "dev",
    "co",
    "app",
    "cloud",
    "local",
    "localhost",
    "internal",
    "intranet",
    "lan",
    "svc",
    "home",
    "arpa",
    "test",
    "example",
    "invalid",
];

/// Without anything that looks like a credential or an address, on one line, at most 600 characters.
pub(super) fn text(original: &str) -> String {
    let mut clean = String::with_capacity(original.len().min(MAX_CHARS * 4));
    let mut word = String::new();
    for letter in original.chars().chain([' ']) {
        if letter.is_whitespace() || letter.is_control() || "\"'`<>(){},;|".contains(letter) {
            push_word(&mut clean, &word);
            word.clear();
            clean.push(if letter.is_control() { ' ' } else { letter });
        } else {
            word.push(letter);
        }
    }
    shorten(clean.trim_end())
}

/// Also without this credential and the host of this address.
pub(super) fn exact(original: &str, secret: Option<&str>, base_url: &str) -> String {
    let host = base_url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let mut clean = original.to_owned();
    for hidden in [secret.unwrap_or_default(), base_url, host] {
        // What is shorter says nothing, and would tear words apart.
        if hidden.len() >= 4 {
            clean = clean.replace(hidden, HIDDEN);
        }
    }
    clean
}

fn push_word(clean: &mut String, word: &str) {
    // The dot or colon that ends a sentence is not part of an address.
    let bare = word.trim_end_matches(['.', ':', '!', '?', '*']);
    if is_address(bare) || is_key(bare) {
        clean.push_str(HIDDEN);
        clean.push_str(&word[bare.len()..]);
    } else {
        clean.push_str(word);
    }
}

fn is_key(word: &str) -> bool {
    let is_keyish = |part: &str| {
        KEY_PREFIXES.iter().any(|prefix| part.len() >= prefix.len() + 4 && part.starts_with(prefix)) || is_random(part)
    };
    word.split(['=', ':', '/']).any(is_keyish)
}

fn is_random(part: &str) -> bool {
    let runs = part.split(|letter: char| !letter.is_ascii_alphanumeric());
    runs.into_iter().any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        run.len() >= KEY_LENGTH && digits > 0 && digits < run.len()
    })
}

fn is_address(word: &str) -> bool {
    if word.contains("://") || word.starts_with("//") {
        return true;
    }
    let place = word.rsplit(['@', '=']).next().unwrap_or(word);
    if place.parse::<Ipv6Addr>().is_ok_and(|address| !address.is_unspecified())
        || place.contains('[') && place.contains("]:")
    {
        return true;
    }
    let authority = place.split(['/', '?']).next().unwrap_or(place);
    let (host, port) = authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let has_port =
        port.is_some_and(|port| (2..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_ip = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || host.parse::<Ipv4Addr>().is_ok();
    is_ip || is_host_name(host) || host.eq_ignore_ascii_case("localhost") || has_port && is_label(host)
}

fn is_host_name(host: &str) -> bool {
    let mut labels = host.rsplit('.');
    let last = labels.next().unwrap_or_default().to_ascii_lowercase();
    host.contains('.') && HOST_ENDINGS.contains(&last.as_str()) && labels.all(is_label)
}

fn is_label(label: &str) -> bool {
    label.bytes().any(|byte| byte.is_ascii_alphabetic())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_credentials_and_addresses() {
        let rows = [
            (
                "Incorrect API key provided: sk-abc***xyz. Find yours at https://platform.openai.com/account.",
                "Incorrect API key provided: ***. Find yours at ***.",
            ),
            ("dial tcp 10.1.2.3:11434: connect: connection refused", "dial tcp ***: connect: connection refused"),
            ("lookup api.groq.com on [::1]:53 failed", "lookup *** on *** failed"),
            ("upstream ollama:11434 and localhost are down", "upstream *** and *** are down"),
            ("see console.groq.com/settings/billing", "see ***"),
            ("organization `org_01hqk3vfa2k5c8d9e0f1g2h3j4` on tokens", "organization `***` on tokens"),
            ("Bearer gsk_0123456789abcdef", "Bearer ***"),
            ("key=AIzaSyA-canary_0123456789 refused", "*** refused"),
        ];

        for (given, expected) in rows {
            assert_eq!(text(given), expected);
        }
    }

    #[test]
    fn leaves_models_fields_and_numbers_alone() {
        let rows = [
            "The model `meta-llama/llama-4-maverick-17b-128e-instruct` does not exist",
            "qwen3:8b does not support tools",
            "messages.0.content: Field required; 16:9 is no ratio",
            "Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s.",
            "'messages[0].role' does not support 'wizard'",
        ];

        for given in rows {
            assert_eq!(text(given), given);
        }
    }

    #[test]
    fn hides_exactly_what_was_used() {
        let clean = exact("token swordfish at http://inner/v1, host inner", Some("swordfish"), "http://inner/v1");

        assert_eq!(clean, "token *** at ***, host ***");
    }

    #[test]
    fn shortens_and_stays_on_one_line() {
        let clean = text(&format!("a\r\nb {}", "é".repeat(900)));

        assert!(clean.starts_with("a  b é") && clean.ends_with('…'), "{clean}");
        assert_eq!(clean.chars().count(), MAX_CHARS + 1);
    }
}
