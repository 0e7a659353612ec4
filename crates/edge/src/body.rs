//! Request bodies: what is refused before a byte is read, and reading within size and time.

use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::config::Checked;
use crate::inflate::{self, Coding};
use crate::refusal::{Answer, Refusal};

/// What is read of a body that nobody wanted, so that its connection can go on.
const MAX_DRAIN: u64 = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Refuses bodies by their head: too large, not JSON, or compressed in a way that we do not know. How it is compressed.
pub(crate) fn admit(headers: &HeaderMap, announced: Option<u64>, max: u64) -> Answer<Option<Coding>> {
    if announced.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    if headers.get(CONTENT_TYPE).is_some_and(|content_type| !is_json(content_type)) {
        let message = "send the body as application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
    }
    inflate::coding(headers)
}

fn is_json(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

pub(crate) fn too_large(max: u64) -> Refusal {
    let message = format!("the body is larger than {max} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message)
}

/// Reads a whole body. One that arrived in one piece is not copied.
pub(crate) async fn read<B>(mut body: B, max: u64, config: &Checked) -> Answer<Bytes>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let end = Instant::now() + config.body_total;
    let Some(first) = next(&mut body, end, config).await? else { return Ok(Bytes::new()) };
    check_size(first.len(), max)?;
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = body.size_hint().exact().map_or(0, |rest| usize::try_from(rest.min(max)).unwrap_or(0));
    let mut whole = BytesMut::with_capacity(first.len() + announced);
    whole.extend_from_slice(&first);
    while let Some(piece) = next(&mut body, end, config).await? {
        check_size(whole.len() + piece.len(), max)?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn check_size(length: usize, max: u64) -> Answer<()> {
    if length as u64 > max { Err(too_large(max)) } else { Ok(()) }
}

async fn next<B>(body: &mut B, end: Instant, config: &Checked) -> Answer<Option<Bytes>>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        let idle = Instant::now() + config.body_idle;
        match timeout_at(idle.min(end), body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers have no meaning here.
                Err(_trailers) => {}
            },
            Ok(Some(Err(_broken))) => return Err(Refusal::bad("BODY_BROKEN", "the body of the request broke off")),
            Err(_late) => {
                let message = "the body of the request came too slowly";
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message));
            }
        }
    }
}

/// Reads and forgets what a refused request still sends. False if that is too much or takes too long.
pub(crate) async fn drain<B>(body: B) -> bool
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let small = body.size_hint().upper().is_some_and(|rest| rest <= MAX_DRAIN);
    small && matches!(timeout_at(Instant::now() + DRAIN_TIME, body.collect()).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use http::header::CONTENT_ENCODING;
    use http_body_util::{Channel, Full};

    fn config() -> Checked {
        Config::default().check().unwrap()
    }

    #[test]
    fn bodies_are_refused_by_their_head() {
        let json = |extra: &[(http::HeaderName, &'static str)]| {
            extra.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        for (headers, announced, expected) in [
            (json(&[]), Some(11), Some(413)),
            (json(&[(CONTENT_TYPE, "text/plain")]), Some(1), Some(415)),
            (json(&[(CONTENT_ENCODING, "br")]), Some(1), Some(415)),
            (json(&[(CONTENT_ENCODING, "gzip")]), Some(1), None),
            (json(&[(CONTENT_TYPE, "Application/JSON; charset=utf-8")]), Some(10), None),
            (json(&[(CONTENT_TYPE, "application/merge-patch+json")]), None, None),
        ] {
            let status = admit(&headers, announced, 10).err().map(|refusal| refusal.status.as_u16());

            assert_eq!(status, expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let sent = Bytes::from_static(b"{\"a\":1}");

        let read = read(Full::new(sent.clone()), 10, &config()).await.unwrap();

        assert_eq!(read.as_ptr(), sent.as_ptr());
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        for (max, expected) in [(6, None), (5, Some(413))] {
            let (mut sender, body) = Channel::<Bytes>::new(2);
            sender.send_data(Bytes::from_static(b"abc")).await.unwrap();
            sender.send_data(Bytes::from_static(b"def")).await.unwrap();
            drop(sender);

            let outcome = read(body, max, &config()).await;

            assert_eq!(outcome.err().map(|refusal| refusal.status.as_u16()), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_times_out() {
        let (_sender, body) = Channel::<Bytes>::new(1);

        let refusal = read(body, 10, &config()).await.unwrap_err();

        assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (408, "BODY_TIMEOUT"));
    }
}
