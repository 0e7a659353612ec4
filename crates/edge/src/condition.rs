//! Tags of our own resources, and requests that depend on them: `ETag`, `If-None-Match` and `If-Match` (RFC 9110, 8.8.3 and
//! 13.1). A tag has two halves: `"thing.answer"`. The first one stands for what people change, the second one for every byte
//! of the answer. A change may name either tag of the same thing, so that a key's use between reading and changing it
//! disturbs nobody.

use axum::body::{Body, HttpBody};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use manifold_core::{Error, TenantId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::Service;

use crate::call::Call;
use crate::edge::Edge;
use crate::headers::value;
use crate::refusal::{self, Answer, Refusal};

/// What changes without anybody changing the thing.
const PASSING: [&str; 2] = ["last_used_at", "seen_at"];
/// Bytes of each half of a tag.
const HALF: usize = 9;

/// Which tags the client knows already.
pub(crate) fn known(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(IF_NONE_MATCH).iter().cloned().collect()
}

/// Gives an answer its tag; one that the client knows goes without its body.
pub(crate) async fn tag(response: Response, known: &[HeaderValue]) -> Answer<Response> {
    if response.status() != StatusCode::OK || !is_whole_json(&response) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let body = whole(body).await?;
    let tag = tag_of(&body);
    let is_known = tags(known).any(|text| text == "*" || text.strip_prefix("W/").unwrap_or(text) == tag);
    head.headers.insert(ETAG, value(tag));
    if !is_known {
        return Ok(Response::from_parts(head, Body::from(body)));
    }
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(CONTENT_TYPE);
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::empty()))
}

/// Refuses to change a thing that is not what the client believes, by reading it first as the caller may. Whoever changes it
/// between here and the change itself is met there, by the record of what was done since the mark.
pub(crate) async fn check(edge: &Edge, method: &Method, uri: &Uri, call: &mut Call) -> Answer<()> {
    if !matches!(*method, Method::PUT | Method::PATCH | Method::DELETE) {
        return Ok(());
    }
    let wishes: Vec<_> = call.headers.get_all(IF_MATCH).iter().cloned().collect();
    if wishes.is_empty() {
        return Ok(());
    }
    let shown =
        edge.routes.find(&Method::GET, uri.path()).map_err(|_| failed("this cannot be read, so it has no tag"))?;
    shown.authorise(&call.context.principal)?;
    // A tenant's own record, also for who runs it from elsewhere.
    let tenant = uri.path().split('/').find_map(TenantId::parse).unwrap_or(call.context.principal.tenant);
    call.context.unchanged_since = Some(edge.identity.mark(tenant).await?);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri.clone();
    request.extensions_mut().insert(call.clone());
    let response = edge.router.clone().call(request).await.unwrap_or_else(|never| match never {});
    let response = refusal::taken(response)?;
    let tag = tag_of(&whole(response.into_body()).await?);
    let thing = half(&tag);
    if tags(&wishes).any(|text| text == "*" || half(text) == thing) {
        return Ok(());
    }
    Err(failed("this has changed since it was read; read it again and decide anew"))
}

fn failed(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", message).at("If-Match")
}

fn is_whole_json(response: &Response) -> bool {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|content_type| content_type == "application/json");
    json && response.body().size_hint().exact().is_some()
}

async fn whole(body: Body) -> Answer<Bytes> {
    let whole = body.collect().await.map_err(|error| Error::internal("read an answer of ours").because(error))?;
    Ok(whole.to_bytes())
}

/// The tags of a list; ours contain no comma.
fn tags(lines: &[HeaderValue]) -> impl Iterator<Item = &str> {
    lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// What a tag says of the thing. A weak tag says nothing of it.
fn half(tag: &str) -> Option<&str> {
    Some(tag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?.0)
}

fn tag_of(body: &[u8]) -> String {
    let lasting = match serde_json::from_slice(body) {
        Ok(Value::Object(mut members)) => {
            PASSING.iter().for_each(|name| drop(members.remove(*name)));
            hash(Value::Object(members).to_string().as_bytes())
        }
        _ => hash(body),
    };
    format!("\"{lasting}.{}\"", hash(body))
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..HALF])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::respond;

    async fn answer(body: Value, known: &[&'static str]) -> Response {
        let known: Vec<_> = known.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
        tag(respond(StatusCode::OK, &body).unwrap(), &known).await.unwrap()
    }

    #[test]
    fn what_passes_by_itself_changes_the_second_half_only() {
        let tag = |name: &str, used: &str| tag_of(format!(r#"{{"name":"{name}","last_used_at":{used}}}"#).as_bytes());

        let [one, used, renamed] = [tag("a", "null"), tag("a", "\"x\""), tag("b", "null")];

        assert_ne!(one, used);
        assert_eq!(half(&one), half(&used));
        assert_ne!(half(&one), half(&renamed));
        assert!(half(&one).is_some() && half(&format!("W/{one}")).is_none() && half("*").is_none());
    }

    #[tokio::test]
    async fn who_knows_an_answer_gets_it_without_body() {
        let body = serde_json::json!({"name": "a"});
        let first = answer(body.clone(), &[]).await;
        let tag: &'static str = Box::leak(first.headers()[ETAG].to_str().unwrap().to_owned().into_boxed_str());

        let known = answer(body.clone(), &["\"x\"", tag]).await;
        let weakly = answer(body.clone(), &[Box::leak(format!("\"x\" , W/{tag}").into_boxed_str())]).await;
        let other = answer(body, &["\"x\"", "x"]).await;

        assert_eq!((first.status(), other.status()), (StatusCode::OK, StatusCode::OK));
        for known in [known, weakly] {
            assert_eq!((known.status(), known.headers().get(CONTENT_TYPE)), (StatusCode::NOT_MODIFIED, None));
            assert_eq!(known.headers()[ETAG], tag);
            assert!(whole(known.into_body()).await.unwrap().is_empty());
        }
    }
}
