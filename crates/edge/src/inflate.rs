//! Compressed request bodies: gzip and zstd, one of them and once. What comes out is small, whatever goes in.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use ruzstd::decoding::StreamingDecoder;

use crate::body::too_large;
use crate::refusal::{Answer, Refusal};

/// Bytes that one compressed byte may become.
const MAX_RATIO: u64 = 100;
/// Memory that a zstd frame may ask for.
const MAX_WINDOW: u64 = 8 << 20;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

/// What the head says of it; None = not at all.
pub(crate) fn coding(headers: &HeaderMap) -> Answer<Option<Coding>> {
    let mut named = None;
    for line in headers.get_all(CONTENT_ENCODING) {
        for name in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let coding = match name.to_ascii_lowercase().as_slice() {
                b"identity" => continue,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"zstd" => Coding::Zstd,
                _ => return Err(unsupported()),
            };
            if named.replace(coding).is_some() {
                return Err(unsupported());
            }
        }
    }
    Ok(named)
}

fn unsupported() -> Refusal {
    let message = "send the body as it is, or compressed once with gzip or zstd";
    let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_CONTENT_ENCODING", message);
    refusal.with(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, identity"))
}

/// The plain body, of at most `max` bytes.
///
/// # Errors
/// `REQUEST_TOO_LARGE`; `BODY_BROKEN` if it ends too soon or too late, or is not compressed like that.
pub(crate) async fn inflate(coding: Coding, body: Bytes, max: u64) -> Answer<Bytes> {
    let plain = tokio::task::spawn_blocking(move || inflate_now(coding, &body, max)).await;
    plain.unwrap_or_else(|_| Err(broken()))
}

fn inflate_now(coding: Coding, body: &[u8], max: u64) -> Answer<Bytes> {
    let cap = max.min((body.len() as u64).saturating_mul(MAX_RATIO));
    let read = match coding {
        Coding::Gzip => {
            let mut decoder = GzDecoder::new(body);
            read(&mut decoder, cap).map(|plain| (plain, decoder.into_inner().len()))
        }
        Coding::Zstd => match StreamingDecoder::new_with_max_window_size(body, MAX_WINDOW) {
            Ok(mut decoder) => read(&mut decoder, cap).map(|plain| (plain, decoder.into_inner().len())),
            Err(_) => return Err(broken()),
        },
    };
    match read {
        Ok((plain, _)) if plain.len() as u64 > cap => Err(too_large(cap)),
        Ok((plain, 0)) => Ok(plain.into()),
        Ok(_) | Err(_) => Err(broken()),
    }
}

/// One byte more than the cap, if there is one.
fn read(decoder: &mut impl Read, cap: u64) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    decoder.take(cap + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

fn broken() -> Refusal {
    Refusal::bad("BODY_BROKEN", "the body is not a whole gzip or zstd stream")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderName;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        compress_to_vec(plain, CompressionLevel::Fastest)
    }

    fn outcome(coding: Coding, body: &[u8], max: u64) -> Result<Bytes, (u16, String)> {
        inflate_now(coding, body, max).map_err(|refusal| (refusal.status.as_u16(), refusal.error.reason().to_owned()))
    }

    #[test]
    fn what_was_compressed_once_is_read() {
        let plain = br#"{"name":"website"}"#;

        assert_eq!(outcome(Coding::Gzip, &gzip(plain), 100).unwrap(), &plain[..]);
        assert_eq!(outcome(Coding::Zstd, &zstd(plain), 100).unwrap(), &plain[..]);
    }

    #[test]
    fn case_62_bombs_cut_streams_and_what_follows_them_are_refused() {
        let zeros = vec![0; 1 << 20];
        let (small, large) = ((413, "REQUEST_TOO_LARGE".to_owned()), vec![b'x'; 2_000]);
        let broken = (400, "BODY_BROKEN".to_owned());
        for (coding, pack) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Zstd, zstd)] {
            let packed = pack(b"{\"name\":\"website\"}");
            let mut longer = packed.clone();
            longer.push(0);
            let shorter = packed[..packed.len() - 1].to_vec();

            assert_eq!(outcome(coding, &pack(&zeros), 8 << 20), Err(small.clone()), "beyond a hundred times its size");
            assert_eq!(outcome(coding, &pack(&large), 1_999), Err(small.clone()), "beyond the cap");
            assert_eq!(outcome(coding, &shorter, 100), Err(broken.clone()));
            assert_eq!(outcome(coding, &longer, 100), Err(broken.clone()));
            assert_eq!(outcome(coding, b"{}", 100), Err(broken.clone()));
            assert_eq!(outcome(coding, b"", 100), Err(broken.clone()));
        }
    }

    #[test]
    fn case_62_other_codings_and_more_than_one_are_refused() {
        let read = |lines: &[&'static str]| {
            let name: HeaderName = CONTENT_ENCODING;
            let lines = lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line)));
            coding(&lines.fold(HeaderMap::new(), |mut all, (name, line)| {
                all.append(name, line);
                all
            }))
            .map_err(|refusal| refusal.status.as_u16())
        };

        assert_eq!(read(&[]), Ok(None));
        assert_eq!((read(&["identity"]), read(&["GZIP"])), (Ok(None), Ok(Some(Coding::Gzip))));
        assert_eq!(read(&["zstd", "identity"]), Ok(Some(Coding::Zstd)));
        for lines in [&["br"][..], &["gzip, gzip"], &["gzip", "zstd"], &["deflate"], &[""], &["gzip,"]] {
            assert_eq!(read(lines), Err(415), "{lines:?}");
        }
    }
}
