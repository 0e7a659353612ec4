//! Puts a request together: address, headers, body. Here the credential becomes a header, and nowhere else.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use manifold_contract::ai::v1::Tool;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::classify::{Class, Failure};
use crate::provider::{Encoded, Target};

/// How a provider wants its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    Header(&'static str),
}

/// A POST of JSON.
pub(super) fn post(
    target: &Target<'_>,
    path: &str,
    auth: Auth,
    headers: &[(&'static str, &'static str)],
    body: Vec<u8>,
) -> Result<Encoded, Failure> {
    let mut request = build(target, path, auth, headers, Bytes::from(body))?;
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Encoded { request, degraded: Vec::new() })
}

/// A GET.
pub(super) fn get(
    target: &Target<'_>,
    path: &str,
    auth: Auth,
    headers: &[(&'static str, &'static str)],
) -> Result<Encoded, Failure> {
    Ok(Encoded { request: build(target, path, auth, headers, Bytes::new())?, degraded: Vec::new() })
}

fn build(
    target: &Target<'_>,
    path: &str,
    auth: Auth,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
) -> Result<http::Request<Bytes>, Failure> {
    let uri: http::Uri = [target.base_url, path]
        .concat()
        .parse()
        .map_err(|_| Failure::new(Class::Connect, "the address of the provider is no URL"))?;
    let mut request = http::Request::new(body);
    *request.uri_mut() = uri;
    for (name, value) in headers {
        request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(credential) = target.credential {
        let (name, text) = match auth {
            Auth::Bearer => (AUTHORIZATION, ["Bearer ", credential.expose()].concat()),
            Auth::Header(name) => (HeaderName::from_static(name), credential.expose().clone()),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| Failure::new(Class::Auth, "the credential holds characters that no header can carry"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// Serialises into one buffer of about the right size.
pub(super) fn json(body: &impl Serialize, size_hint: usize) -> Result<Vec<u8>, Failure> {
    let mut buffer = Vec::with_capacity(size_hint + 512);
    serde_json::to_writer(&mut buffer, body)
        .map_err(|_| Failure::new(Class::Invalid, "the request holds a number that JSON cannot carry"))?;
    Ok(buffer)
}

/// A model's name that is safe inside a path.
pub(super) fn path_safe(model: &str) -> Result<&str, Failure> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(&byte);
    if model.is_empty() || !model.bytes().all(safe) || model.contains("..") || model.contains("//") {
        return Err(Failure::new(Class::Gone, "no model of this provider has such a name").at("model"));
    }
    Ok(model)
}

/// Raw JSON of the caller as a piece of the body. It is checked, because what is broken would break the whole body.
pub(super) fn raw<'a>(text: &'a str, param: &'static str) -> Result<&'a RawValue, Failure> {
    serde_json::from_str(text).map_err(|_| Failure::new(Class::Invalid, "this is no JSON").at(param))
}

/// The schema of a tool's arguments. Some vendors want one even where there are no arguments.
pub(super) fn parameters(tool: &Tool) -> Result<&RawValue, Failure> {
    match tool.parameters_json.as_str() {
        "" => raw(r#"{"type":"object","properties":{}}"#, "tools"),
        text => raw(text, "tools"),
    }
}

/// Notes a wish that is left out, once.
pub(super) fn degrade(degraded: &mut Vec<&'static str>, word: &'static str) {
    if !degraded.contains(&word) {
        degraded.push(word);
    }
}
