//! Our own wishes beside OpenAI's: `manifold-*` headers, or the object `manifold` in the body, which wins.

use http::{HeaderMap, HeaderName};

use super::request::{OneOrMany, Options};
use crate::refusal::{Answer, Refusal};

const LABEL: HeaderName = HeaderName::from_static("manifold-label");
const STRICT: HeaderName = HeaderName::from_static("manifold-strict");
const THINKING: HeaderName = HeaderName::from_static("manifold-thinking");
const MAX_LABELS: usize = 16;
const MAX_LABEL: usize = 64;

/// What a caller wishes of the house.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    /// Labels such as `confidential`.
    pub(crate) labels: Vec<String>,
    /// Refuse instead of degrade.
    pub(crate) strict: bool,
    /// Show the model's thinking.
    pub(crate) thinking: bool,
}

/// Joins both sources.
pub(crate) fn wishes(headers: &HeaderMap, body: Option<Options>) -> Answer<Wishes> {
    let body = body.unwrap_or_default();
    let labels = match body.labels {
        Some(OneOrMany::One(line)) => split(&line),
        Some(OneOrMany::Many(list)) => list,
        None => headers.get_all(LABEL).iter().filter_map(|line| line.to_str().ok()).flat_map(split).collect(),
    };
    if labels.len() > MAX_LABELS || labels.iter().any(|label| !(1..=MAX_LABEL).contains(&label.len())) {
        let message = format!("at most {MAX_LABELS} labels of 1 to {MAX_LABEL} characters");
        return Err(Refusal::bad("BODY_INVALID", message).at("manifold.labels"));
    }
    let strict = body.strict.unwrap_or_else(|| flag(headers, STRICT));
    let thinking = body.thinking.unwrap_or_else(|| flag(headers, THINKING));
    Ok(Wishes { labels, strict, thinking })
}

fn split(line: &str) -> Vec<String> {
    line.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

fn flag(headers: &HeaderMap, name: HeaderName) -> bool {
    headers.get(name).is_some_and(|value| value == "1" || value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("manifold-label", "confidential, team-a".parse().unwrap());
        headers.insert("manifold-strict", "1".parse().unwrap());
        headers
    }

    #[test]
    fn headers_speak_when_the_body_is_silent() {
        let wishes = wishes(&headers(), None).unwrap();

        assert_eq!(wishes.labels, ["confidential", "team-a"]);
        assert!(wishes.strict && !wishes.thinking);
    }

    #[test]
    fn the_body_wins() {
        let body =
            Options { labels: Some(OneOrMany::Many(vec!["x".to_owned()])), strict: Some(false), thinking: Some(true) };

        let wishes = wishes(&headers(), Some(body)).unwrap();

        assert_eq!(wishes, Wishes { labels: vec!["x".to_owned()], strict: false, thinking: true });
    }

    #[test]
    fn labels_are_bounded() {
        let body = Options { labels: Some(OneOrMany::Many(vec![String::new()])), ..Options::default() };

        assert_eq!(wishes(&headers(), Some(body)).unwrap_err().error.param(), Some("manifold.labels"));
    }
}
