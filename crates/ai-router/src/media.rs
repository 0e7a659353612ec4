//! Images by address, for providers that want them inside the request. The address comes from a caller, so it is fetched
//! through the guarded side of the outbound client: public addresses only, no redirects. A conversation sends its images
//! again with every turn, and another provider may be tried with them, so what was fetched is kept for a while.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use manifold_cache::{Group, Redis, Terms, Values};
use manifold_contract::ai::v1::{self as ai, part};
use manifold_core::{Clock, Error, Result};
use manifold_runtime::CallContext;
use manifold_runtime::http::{Client, Outbound, Sent, Trust};
use sha2::{Digest, Sha256};

use crate::Router;
use crate::classify::{Class, Failure};
use crate::view::Candidate;

const MAX_MEDIA: u64 = 20 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// An image is fetched anew after `ttl`. The old one is used so long again while it is fetched or cannot be.
const TERMS: Terms = Terms { ttl: Duration::from_secs(300), stale: Duration::from_secs(300), max_bytes: 64 << 20 };

/// Images that were fetched, by tenant and address.
pub struct Images {
    http: Client,
    kept: Values,
}

/// The request with its images inside, if the candidate wants them so.
pub async fn inlined<'a>(
    router: &Router,
    context: &CallContext,
    candidate: &Candidate,
    request: &'a ai::ChatRequest,
) -> Result<Cow<'a, ai::ChatRequest>, Failure> {
    let by_address = |part: &ai::Part| matches!(&part.kind, Some(part::Kind::Image(media)) if media.data.is_empty());
    if !candidate.endpoint.codec.inlines_media()
        || !request.messages.iter().flat_map(|message| &message.parts).any(by_address)
    {
        return Ok(Cow::Borrowed(request));
    }
    let mut request = request.clone();
    for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Some(part::Kind::Image(media)) = &mut part.kind
            && media.data.is_empty()
        {
            media.data = Box::pin(router.images.get(context, &media.url))
                .await
                .map_err(|error| Failure::new(Class::Media, error.message()))?;
            media.mime = sniff(&media.data).unwrap_or_default().to_owned();
            media.url.clear();
        }
    }
    Ok(Cow::Owned(request))
}

impl Images {
    pub fn new(http: Client, redis: Option<Redis>, clock: Clock) -> Self {
        Self { http, kept: Values::new("ai-images", TERMS, redis, clock) }
    }

    /// What is at this address, as the tenant of the caller sees it.
    async fn get(&self, context: &CallContext, url: &str) -> Result<Bytes> {
        // An address may hold a secret, or be as long as a request.
        let address = URL_SAFE_NO_PAD.encode(Sha256::digest(url));
        let key = Group::of_tenant(context.principal.tenant, "images").key(address);
        let image = self.kept.get_or_load(&key, self.fetch(context, url)).await?;
        Ok(Bytes::from_owner(image.bytes))
    }

    async fn fetch(&self, context: &CallContext, url: &str) -> Result<Vec<u8>> {
        let request =
            http::Request::get(url).body(Bytes::new()).map_err(|_| refused("the address of an image is no URL"))?;
        let outbound = Outbound {
            request,
            trust: Trust::Untrusted,
            deadline: context.deadline,
            first_byte: PATIENCE,
            idle: PATIENCE,
            max_body: MAX_MEDIA,
            sent: Sent::default(),
        };
        let inbound =
            self.http.send(outbound).await.map_err(|_| refused("the address of an image cannot be fetched"))?;
        if inbound.head.status != http::StatusCode::OK {
            return Err(refused("the address of an image does not answer 200"));
        }
        let too_large = "an image could not be read, or is larger than 20 MiB";
        let bytes = inbound.bytes().await.map_err(|_| refused(too_large))?;
        match sniff(&bytes) {
            Some(_) => Ok(bytes.into()),
            None => Err(refused("the address of an image holds no PNG, JPEG, GIF or WebP")),
        }
    }
}

fn refused(message: &'static str) -> Error {
    Error::invalid("INVALID_IMAGE_URL", message)
}

/// The type by the first bytes, whatever a header says.
pub fn sniff(data: &[u8]) -> Option<&'static str> {
    match data {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_the_bytes_and_refuses_svg() {
        assert_eq!(sniff(b"\x89PNG\r\n"), Some("image/png"));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(sniff(b"<svg xmlns="), None);
        assert_eq!(sniff(b""), None);
    }
}
