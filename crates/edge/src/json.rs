//! Reading JSON bodies. Dialects are read leniently and name the JSON path of a fault; native bodies are read strictly.

mod twice;

use http::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::refusal::{Answer, Refusal};

const MAX_DEPTH: usize = 64;

/// Reads a dialect's body: every fault is a 400, unknown fields are the reader's business.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Answer<T> {
    // Checked as a whole, so that not every string has to be checked. Only the slower reading tells where a fault is.
    let outcome = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    outcome.map_err(|error| match error.classify() {
        Category::Data => fault::<T>(body).unwrap_or_else(|| syntax(&error)),
        Category::Syntax | Category::Eof | Category::Io => syntax(&error),
    })
}

/// Reads a native body: it is no list, which serde would take for the fields of an object in their order. Unknown or wrong fields
/// are 422; a name that stands twice in an object, anywhere, or depth beyond 64
/// is 400.
pub(crate) fn read_strictly<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Answer<T> {
    if is_too_deep(body) {
        return Err(Refusal::bad("BODY_TOO_DEEP", format!("the body is nested more than {MAX_DEPTH} times")));
    }
    if let Some(place) = twice::find(body) {
        return Err(Refusal::bad("BODY_INVALID", "a name stands twice in one object").at(place));
    }
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let outcome = read(body).and_then(|read| {
        let message = "invalid type: sequence, expected an object";
        if is_list { Err(Refusal::bad("BODY_INVALID", message)) } else { Ok(read) }
    });
    outcome.map_err(|mut refusal| {
        if refusal.error.reason() == "BODY_INVALID" {
            refusal.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        refusal
    })
}

/// Reads a native body strictly; no body, and null, is one that leaves everything open.
pub(crate) fn read_optional<T: Default + for<'a> Deserialize<'a>>(body: &[u8]) -> Answer<T> {
    if body.is_empty() { Ok(T::default()) } else { Ok(read_strictly::<Option<T>>(body)?.unwrap_or_default()) }
}

/// A field that may be left out, or null: `#[serde(default, deserialize_with = "json::nullable")]`.
pub(crate) fn nullable<'a, T: Deserialize<'a>, D: Deserializer<'a>>(input: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(input).map(Some)
}

/// Reads again, slower, to learn where the fault is.
fn fault<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<Refusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let path = error.path().to_string();
    let refusal = Refusal::bad("BODY_INVALID", without_value(without_position(&error.inner().to_string())));
    Some(if path == "." { refusal } else { refusal.at(path) })
}

fn syntax(error: &serde_json::Error) -> Refusal {
    Refusal::bad("BODY_NOT_JSON", format!("the body is not valid JSON: {error}"))
}

/// Only the kind of a wrong value is told: the value may be a prompt, and messages end up in logs.
fn without_value(message: &str) -> String {
    let Some((what, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    match what.split_once(": ") {
        Some((fault @ ("invalid type" | "invalid value"), value)) => {
            let kind = value.split(' ').next().unwrap_or_default();
            format!("{fault}: {kind}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

/// serde_json ends every message with a position, which the path tells better.
fn without_position(message: &str) -> &str {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    &message[..end]
}

/// Counts brackets outside strings.
fn is_too_deep(body: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use manifold_core::Secret;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "read only by the parser")]
        list: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[expect(dead_code, reason = "read only by the parser")]
        name: String,
    }

    fn refused(body: &str) -> (u16, String, Option<String>) {
        let refusal = read_strictly::<Body>(body.as_bytes()).unwrap_err();
        let param = refusal.error.param().map(str::to_owned);
        (refusal.status.as_u16(), refusal.error.reason().to_owned(), param)
    }

    #[test]
    fn what_cannot_be_parsed_is_400_and_what_is_not_acceptable_is_422() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        for (body, status, reason, param) in [
            ("{", 400, "BODY_NOT_JSON", None),
            ("", 400, "BODY_NOT_JSON", None),
            ("{\"list\":[]} x", 400, "BODY_NOT_JSON", None),
            ("{\"list\":[],\"list\":[]}", 400, "BODY_INVALID", Some("list")),
            ("{\"list\":[],\"x\":{\"y\":1,\"y\":2}}", 400, "BODY_INVALID", Some("x.y")),
            (deep.as_str(), 400, "BODY_TOO_DEEP", None),
            ("{\"list\":[{\"name\":\"a\"},{\"name\":1}]}", 422, "BODY_INVALID", Some("list[1].name")),
            ("{\"list\":[{\"name\":\"a\",\"x\":1}]}", 422, "BODY_INVALID", Some("list[0].x")),
            ("{}", 422, "BODY_INVALID", None),
            (" [[]]", 422, "BODY_INVALID", None),
            ("[", 400, "BODY_NOT_JSON", None),
        ] {
            assert_eq!(refused(body), (status, reason.to_owned(), param.map(str::to_owned)), "{body}");
        }
    }

    #[test]
    fn case_63_what_other_readers_let_pass_is_no_json() {
        let digits = format!("{{\"list\":{}}}", "9".repeat(10_000));
        let names: String = (0..100_000).map(|name| format!("\"{name}\":1,")).collect();
        let names = format!("{{{names}\"list\":[]}}");
        let deep = "[".repeat(100_000);
        for (body, status, reason) in [
            (b"\xef\xbb\xbf{\"list\":[]}".as_slice(), 400, "BODY_NOT_JSON"),
            (b"{\"list\":[]}{}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":[]}\0", 400, "BODY_NOT_JSON"),
            (b"{\"list\":NaN}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":-Infinity}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":1e400}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":[{\"name\":\"\\ud800\"}]}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":[{\"name\":\"\xff\"}]}", 400, "BODY_NOT_JSON"),
            (b"{\0\"\0l\0\"\0:\0[\0]\0}\0", 400, "BODY_NOT_JSON"),
            (b"{'list':[]}", 400, "BODY_NOT_JSON"),
            (b"{\"list\":[],}", 400, "BODY_NOT_JSON"),
            (digits.as_bytes(), 400, "BODY_NOT_JSON"),
            (deep.as_bytes(), 400, "BODY_TOO_DEEP"),
            (names.as_bytes(), 422, "BODY_INVALID"),
            (b"{\"list\":[],\"__proto__\":{}}", 422, "BODY_INVALID"),
        ] {
            let refusal = read_strictly::<Body>(body).unwrap_err();

            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (status, reason), "{shown}");
        }
    }

    #[test]
    fn a_wrong_value_is_not_repeated() {
        let error = read::<Body>(br#"{"list":"my, expected secret"}"#).unwrap_err();

        assert_eq!(error.error.message(), "invalid type: string, expected a sequence");
    }

    #[test]
    fn a_secret_is_a_text_and_no_number() {
        let read = |body: &str| read_strictly::<Secret<String>>(body.as_bytes());

        assert_eq!(read("\"287082\"").unwrap().expose(), "287082");
        for body in ["287082", "-1", "null", "[\"a\"]"] {
            assert_eq!(read(body).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        }
    }

    #[test]
    fn brackets_inside_strings_are_not_depth() {
        assert!(!is_too_deep(format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100)).as_bytes()));
    }
}
