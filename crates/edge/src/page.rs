//! Pages of lists: `limit` and `cursor` in the query, the way to the next page in the answer.

use axum::response::Response;
use http::StatusCode;
use http::header::LINK;
use manifold_core::PageRequest;
use serde::Serialize;
use uuid::Uuid;

use crate::headers::value;
use crate::refusal::{Answer, Refusal};
use crate::rest::respond;

/// Reads `limit` and `cursor`, which is the id of the last row of the page before; anything else, and anything twice, is
/// refused.
pub(crate) fn read(query: &str, id: impl Fn(&str) -> Option<Uuid>) -> Answer<PageRequest> {
    let (mut limit, mut after) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "limit" if limit.is_none() => {
                limit = Some(text.parse().map_err(|_| Refusal::bad("LIMIT_INVALID", "limit is a number").at("limit"))?);
            }
            "cursor" if after.is_none() => {
                let ours = id(text);
                let wrong = || Refusal::bad("INVALID_CURSOR", "this cursor is not ours").at("cursor");
                after = Some(ours.ok_or_else(wrong)?);
            }
            "limit" | "cursor" => return Err(Refusal::bad("PARAMETER_REPEATED", "a parameter was given twice")),
            _ => return Err(Refusal::bad("PARAMETER_UNKNOWN", "the parameters are limit and cursor")),
        }
    }
    Ok(PageRequest::new(limit, after)?)
}

/// A page, with a link to the one after it (RFC 8288) if there is one.
pub(crate) fn respond_with(
    path: &str,
    request: &PageRequest,
    next: Option<&str>,
    body: &impl Serialize,
) -> Answer<Response> {
    let mut response = respond(StatusCode::OK, body)?;
    if let Some(cursor) = next {
        let link = format!("<{path}?limit={}&cursor={cursor}>; rel=\"next\"", request.limit);
        response.headers_mut().insert(LINK, value(link));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use manifold_core::KeyId;

    use super::*;

    #[test]
    fn pages_are_asked_for_by_limit_and_cursor_only() {
        let cursor = "cursor=key_01h455vb4pex5vsknk084sn02q";
        for (query, reason) in [
            ("", None),
            ("limit=200&cursor=key_01h455vb4pex5vsknk084sn02q", None),
            (cursor, None),
            ("limit=0", Some("LIMIT_INVALID")),
            ("limit=x", Some("LIMIT_INVALID")),
            ("cursor=abc", Some("INVALID_CURSOR")),
            ("cursor=ten_01h455vb4pex5vsknk084sn02q", Some("INVALID_CURSOR")),
            ("limit=1&limit=2", Some("PARAMETER_REPEATED")),
            ("sort=name", Some("PARAMETER_UNKNOWN")),
        ] {
            let refused = read(query, |text| KeyId::parse(text).map(|id| id.0))
                .err()
                .map(|refusal| refusal.error.reason().to_owned());

            assert_eq!(refused.as_deref(), reason, "{query}");
        }
    }
}
