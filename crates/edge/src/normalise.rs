//! One reading of a request for routing, authentication and upstreams: methods, `Host`, target and the client's address.
//! Whatever two readers could understand differently is refused.

use std::net::IpAddr;

use http::header::{ALLOW, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use ipnet::IpNet;

use crate::refusal::{Answer, Refusal};

/// The only path below which `%2F` is data: ids of models contain slashes.
const MODELS: &str = "/v1/models/";
const ALIAS: &str = "/openai";
/// Parameters of a query.
const MAX_PARAMETERS: usize = 100;

/// Refuses what is not plain HTTP.
pub(crate) fn check(parts: &Parts, max_target: usize) -> Answer<()> {
    method(&parts.method)?;
    host(parts)?;
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > max_target {
        return Err(Refusal::new(
            StatusCode::URI_TOO_LONG,
            "TARGET_TOO_LONG",
            "the address of the request is too long",
        ));
    }
    path(parts.uri.path())?;
    // No value of ours has it, and not every database can look for it.
    if parts.uri.query().is_some_and(|query| query.contains("%00")) {
        return Err(Refusal::bad("BAD_TARGET", "the query of the request holds a NUL"));
    }
    if parts.uri.query().is_some_and(|query| query.split('&').count() > MAX_PARAMETERS) {
        let message = format!("the query has more than {MAX_PARAMETERS} parameters");
        return Err(Refusal::bad("TOO_MANY_PARAMETERS", message));
    }
    if parts.headers.get_all(EXPECT).iter().any(|wish| !wish.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let message = "of all that can be expected we know 100-continue only";
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "EXPECTATION_FAILED", message));
    }
    Ok(())
}

/// Refuses a body that has no meaning.
pub(crate) fn check_body(parts: &Parts) -> Answer<()> {
    if matches!(parts.method, Method::GET | Method::HEAD) && has_body(&parts.headers) {
        return Err(Refusal::bad("BODY_NOT_ALLOWED", "GET and HEAD take no body"));
    }
    Ok(())
}

/// Whether the head announces a body.
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

fn method(method: &Method) -> Answer<()> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            Ok(())
        }
        // No operation takes it, as the routes say, together with what they do take.
        Method::TRACE => Ok(()),
        Method::CONNECT => {
            let refusal =
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this is no proxy to anywhere");
            Err(refusal.with(ALLOW, HeaderValue::from_static("")))
        }
        // So it is with the safe method with a body, which HTTP knows by now.
        _ if method == "QUERY" => Ok(()),
        _ => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "METHOD_UNKNOWN", "this method is not known")),
    }
}

fn host(parts: &Parts) -> Answer<()> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let valid = match (first, second) {
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        // HTTP/1.0 and absolute targets may come without.
        (None, None) => parts.version < http::Version::HTTP_11 || parts.uri.host().is_some(),
        _ => false,
    };
    if valid { Ok(()) } else { Err(Refusal::bad("BAD_HOST", "exactly one valid Host is needed")) }
}

/// `uri-host[:port]` of at most 255 bytes, without user information.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest),
        Some(_) => return false,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    let port =
        port.strip_prefix(':').map_or(port.is_empty(), |digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    text.len() <= 255 && !name.is_empty() && name.bytes().all(plain) && port
}

fn path(path: &str) -> Answer<()> {
    let names_model = path.strip_prefix(ALIAS).unwrap_or(path).starts_with(MODELS);
    let slash = if names_model { Slash::IsData } else { Slash::Separates };
    let bytes = path.as_bytes();
    let fine = bytes.starts_with(b"/") && !bytes.windows(2).any(|pair| pair == b"//") && !bytes.contains(&b';');
    if fine && escapes(bytes, slash) && !bytes.split(|byte| *byte == b'/').any(is_dots) {
        return Ok(());
    }
    Err(Refusal::bad("BAD_TARGET", "the path of the request is ambiguous or malformed"))
}

/// What an escaped slash is.
#[derive(Clone, Copy, PartialEq)]
enum Slash {
    Separates,
    IsData,
}

/// Every escape is complete, decodes to UTF-8 and hides neither a separator, a NUL nor another escape.
fn escapes(path: &[u8], slash: Slash) -> bool {
    if !path.iter().any(|byte| matches!(byte, b'%' | b'\\') || !byte.is_ascii()) {
        return true;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let Some((digits, after)) = rest.split_at_checked(2) else { return false };
        let Some(value) = hex(digits) else { return false };
        if matches!(value, b'\\' | 0 | b'%') || (value == b'/' && slash == Slash::Separates) {
            return false;
        }
        decoded.push(value);
        rest = after;
    }
    // With slashes as data, dot segments could hide behind them.
    let dots =
        slash == Slash::IsData && decoded.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."));
    !decoded.contains(&b'\\') && !dots && std::str::from_utf8(&decoded).is_ok()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(text, 16).ok()
}

/// A dot segment, plain or escaped.
fn is_dots(segment: &[u8]) -> bool {
    let bare = segment.len() <= 6 && matches!(segment.first(), Some(b'.' | b'%'));
    bare && matches!(segment.to_ascii_lowercase().as_slice(), b"." | b"%2e" | b".." | b".%2e" | b"%2e." | b"%2e%2e")
}

/// `/openai/v1/…` is `/v1/…`.
pub(crate) fn unalias(uri: &Uri) -> Option<Uri> {
    let target = uri.path_and_query()?.as_str();
    let rest = target.strip_prefix(ALIAS).filter(|rest| rest.starts_with("/v1/"))?;
    rest.parse().ok()
}

/// The client: the first address from the right of `X-Forwarded-For` that is no trusted proxy, if the peer is one.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    let mut client = peer;
    if !is_trusted(client) {
        return client;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|line| line.to_str().ok());
    for hop in lines.flat_map(|line| line.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, host: &str) -> Parts {
        Request::builder().method(method).uri(uri).header("host", host).body(()).unwrap().into_parts().0
    }

    fn reason(parts: &Parts) -> Option<(u16, String)> {
        check(parts, 8_192).err().map(|refusal| (refusal.status.as_u16(), refusal.error.reason().to_owned()))
    }

    #[test]
    fn plain_requests_pass() {
        for (method, uri) in [
            ("GET", "/"),
            ("POST", "/v1/chat/completions?x=%2f"),
            ("GET", "/v1/models/groq/llama-3.3:free"),
            ("GET", "/v1/models/groq%2Fllama"),
            ("GET", "/openai/v1/models/groq%2Fllama"),
            ("GET", "/a%20b/%C3%A9"),
            ("GET", "http://api.example/v1/keys"),
        ] {
            assert_eq!(reason(&parts(method, uri, "api.example:8080")), None, "{uri}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for uri in [
            "/v1/keys%2fx",
            "/v1/keys%5cx",
            "/v1/keys%00",
            "/v1/audit?actor=%00",
            "/v1/%zz",
            "/v1/%2",
            "/v1//keys",
            "/v1/../keys",
            "/v1/%2e%2E/keys",
            "/v1/.%2e/keys",
            "/v1/./keys",
            "/v1/keys;a=b",
            "/v1/%252f",
            "/v1/%ff",
            "/v1/%c0%af",
            "/v1/models/..%2f..",
            "/v1/models/a%2f%2e%2e%2fb",
        ] {
            assert_eq!(reason(&parts("GET", uri, "a")), Some((400, "BAD_TARGET".to_owned())), "{uri}");
        }
    }

    #[test]
    fn foreign_methods_and_hosts_are_refused() {
        assert_eq!(reason(&parts("BREW", "/", "a")), Some((501, "METHOD_UNKNOWN".to_owned())));
        assert_eq!(reason(&parts("post", "/", "a")), Some((501, "METHOD_UNKNOWN".to_owned())));
        assert_eq!(reason(&parts("CONNECT", "/", "a")), Some((405, "METHOD_NOT_ALLOWED".to_owned())));
        assert_eq!((reason(&parts("TRACE", "/", "a")), reason(&parts("QUERY", "/", "a"))), (None, None));
        for host in ["", "a@b", "a b", "a:b", "[::1", "[::g]", ":80"] {
            assert_eq!(reason(&parts("GET", "/", host)), Some((400, "BAD_HOST".to_owned())), "{host}");
        }
        assert_eq!(reason(&parts("GET", "/", "[::1]:8080")), None);
    }

    #[test]
    fn a_get_with_a_body_is_refused() {
        let mut parts = parts("GET", "/", "a");
        parts.headers.insert(CONTENT_LENGTH, 3.into());

        let refusal = check_body(&parts).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (400, "BODY_NOT_ALLOWED"));
    }

    #[test]
    fn a_long_target_is_refused() {
        let target = format!("/{}", "a".repeat(8_192));

        assert_eq!(reason(&parts("GET", &target, "a")), Some((414, "TARGET_TOO_LONG".to_owned())));
    }

    #[test]
    fn the_alias_is_cut_and_nothing_else() {
        assert_eq!(unalias(&"/openai/v1/models/a%2Fb?x=1".parse().unwrap()).unwrap(), "/v1/models/a%2Fb?x=1");
        assert_eq!(unalias(&"/openai/v2".parse().unwrap()), None);
        assert_eq!(unalias(&"/v1/models".parse().unwrap()), None);
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.2".parse().unwrap());

        assert_eq!(client([10, 0, 0, 1].into(), &headers, &trusted), IpAddr::from([1, 2, 3, 4]));
        assert_eq!(client([9, 9, 9, 9].into(), &headers, &trusted), IpAddr::from([9, 9, 9, 9]));
    }
}
