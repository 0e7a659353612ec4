//! Reads an error body of whatever shape: OpenAI's object, a flat object, an array, a bare string, FastAPI's details,
//! Google's details, JSON inside a string, a page. Knows no classes.

use serde_json::{Map, Value};

/// Error bodies inside error bodies are followed this far.
const MAX_DEPTH: u8 = 5;
/// Of a body that is no JSON, this much is a message.
const MAX_TEXT: usize = 2_000;

/// What the shapes have in common. Empty = not told.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// The human text.
    pub message: String,
    /// `code`, as text.
    pub code: String,
    /// `type`.
    pub kind: String,
    /// Other machine words: Google's `status` and `reason`, OpenRouter's `limit_source`.
    pub words: Vec<String>,
    /// The field of the request.
    pub param: String,
    /// The HTTP status that the body tells.
    pub status: Option<u16>,
    /// Google's `quotaId`s.
    pub quota_ids: Vec<String>,
    /// Google's `retryDelay`.
    pub retry_delay: String,
    /// Headers of the provider behind the provider.
    pub headers: Vec<(String, String)>,
    /// The body is no JSON.
    pub is_text: bool,
    /// The body is HTML.
    pub is_page: bool,
}

impl Body {
    /// Whether it is JSON that explains a failure.
    pub fn is_error(&self) -> bool {
        !self.is_text && (self.status.is_some() || !self.message.is_empty() || !self.code.is_empty())
    }

    /// Whether it names the request as the cause.
    pub fn says_invalid(&self) -> bool {
        let invalid = |word: &str| word.eq_ignore_ascii_case("invalid_request_error") || word == "INVALID_ARGUMENT";
        invalid(&self.kind) || self.words.iter().any(|word| invalid(word))
    }

    /// Whether a quota's name holds the mark, or a word is it.
    pub fn mentions(&self, mark: &str) -> bool {
        let mut words = self.words.iter().chain([&self.code, &self.kind]);
        words.any(|word| word == mark) || self.quota_ids.iter().any(|id| id.contains(mark))
    }
}

/// Reads what can be read; never fails.
pub(crate) fn parse(bytes: &[u8]) -> Body {
    let mut body = Body::default();
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => body.read(&value, 0),
        Err(_) => body.read_page(bytes),
    }
    body
}

impl Body {
    fn read_page(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
        self.is_text = true;
        self.is_page = text.trim_start().starts_with('<');
        if !self.is_page {
            self.message = text.trim().to_owned();
        }
    }

    fn read(&mut self, value: &Value, depth: u8) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Object(map) => self.read_object(map, depth + 1),
            Value::Array(items) => items.iter().take(1).for_each(|item| self.read(item, depth + 1)),
            Value::String(text) => self.read_text(text, depth + 1),
            _ => {}
        }
    }

    /// A message may be an error body of its own, printed into a string.
    fn read_text(&mut self, text: &str, depth: u8) {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text)
        {
            self.read(&inner, depth + 1);
        }
        fill(&mut self.message, text.trim());
    }

    /// What is further inside is read first and wins.
    fn read_object(&mut self, map: &Map<String, Value>, depth: u8) {
        for key in ["error", "errors"] {
            map.get(key).into_iter().for_each(|inner| self.read(inner, depth));
        }
        if let Some(Value::Object(metadata)) = map.get("metadata") {
            self.read_metadata(metadata, map, depth);
        }
        match map.get("detail") {
            Some(Value::Array(rows)) => self.read_rows(rows),
            Some(other) => self.read(other, depth),
            None => {}
        }
        if let Some(Value::Array(details)) = map.get("details") {
            details.iter().for_each(|detail| self.read_google(detail));
        }
        map.get("message").into_iter().for_each(|message| self.read(message, depth));
        self.read_words(map);
    }

    fn read_words(&mut self, map: &Map<String, Value>) {
        for key in ["status_code", "raw_status_code", "status", "code"] {
            match map.get(key) {
                Some(Value::Number(number)) => self.read_number(key, number.as_u64()),
                Some(Value::String(text)) if key == "code" => {
                    self.status = self.status.or_else(|| text.parse().ok().filter(|code| is_failure(*code)));
                    fill(&mut self.code, text);
                }
                Some(Value::String(text)) => self.words.push(text.clone()),
                _ => {}
            }
        }
        fill(&mut self.kind, text_of(map, "type"));
        fill(&mut self.param, text_of(map, "param"));
    }

    fn read_number(&mut self, key: &str, number: Option<u64>) {
        match number.and_then(|number| u16::try_from(number).ok()).filter(|status| is_failure(*status)) {
            Some(status) => self.status = self.status.or(Some(status)),
            None if key == "code" => fill(&mut self.code, &number.map(|code| code.to_string()).unwrap_or_default()),
            None => {}
        }
    }

    /// FastAPI: `[{loc: ["body", "temperature"], msg, type}]`.
    fn read_rows(&mut self, rows: &[Value]) {
        let mut messages = Vec::new();
        for row in rows.iter().take(8) {
            let place = row.get("loc").and_then(Value::as_array).map(|path| join(path)).unwrap_or_default();
            let text = row.get("msg").and_then(Value::as_str).unwrap_or_default();
            messages.push(if place.is_empty() { text.to_owned() } else { format!("{place}: {text}") });
            fill(&mut self.param, &place);
            fill(&mut self.kind, row.get("type").and_then(Value::as_str).unwrap_or_default());
        }
        fill(&mut self.message, &messages.join("; "));
    }

    /// One of Google's details: which quota, for how long, why, which field.
    fn read_google(&mut self, detail: &Value) {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        fill(&mut self.retry_delay, &text(detail, "retryDelay"));
        self.words.push(text(detail, "reason"));
        let list = |key: &str| detail.get(key).and_then(Value::as_array).into_iter().flatten();
        for violation in list("violations") {
            self.quota_ids.push(text(violation, "quotaId"));
        }
        for violation in list("fieldViolations") {
            fill(&mut self.param, &text(violation, "field"));
        }
    }

    /// OpenRouter: the failure of the provider behind it.
    fn read_metadata(&mut self, metadata: &Map<String, Value>, outer: &Map<String, Value>, depth: u8) {
        if text_of(outer, "message").eq_ignore_ascii_case("provider returned error") {
            metadata.get("raw").into_iter().for_each(|raw| self.read(raw, depth));
        }
        for key in ["limit_source", "error_type", "provider_code"] {
            self.words.push(text_of(metadata, key).to_owned());
        }
        if metadata.contains_key("flagged_input") || metadata.contains_key("reasons") {
            self.words.push("content_filter".to_owned());
        }
        if let Some(Value::Object(headers)) = metadata.get("headers") {
            let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.headers.extend(headers.iter().map(|(name, text)| (name.to_ascii_lowercase(), value(text))));
        }
    }
}

fn is_failure(status: u16) -> bool {
    (400..600).contains(&status)
}

fn text_of<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn fill(slot: &mut String, text: &str) {
    if slot.is_empty() {
        text.clone_into(slot);
    }
}

fn join(path: &[Value]) -> String {
    let names = path.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
    names.filter(|name| name != "body").collect::<Vec<_>>().join(".")
}
