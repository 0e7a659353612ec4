//! Images, sound and documents inside a request: what they claim to be is checked by their first bytes, never decoded.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use manifold_contract::ai::v1::Media;

use super::request::{File, ImageUrl, InputAudio};
use crate::refusal::{Answer, Refusal};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const MAX_PIXELS: u64 = 50_000_000;
const MAX_URL: usize = 8_192;

/// An image by address, or inside a data URL.
pub(crate) fn image(image: ImageUrl<'_>, path: &str) -> Answer<Media> {
    let path = format!("{path}.image_url.url");
    let url = &*image.url.0;
    let detail = image.detail.unwrap_or_default();
    if !matches!(detail.as_str(), "" | "auto" | "low" | "high") {
        return Err(
            Refusal::bad("BODY_INVALID", "detail must be auto, low or high").at(path.replace(".url.url", ".detail"))
        );
    }
    let Some((mime, data)) = data_url(url) else { return remote(url, detail, &path) };
    let data = decode(data).ok_or_else(|| invalid_image("the image is not valid base64", &path))?;
    let Some(found) = sniff(&data) else {
        return Err(invalid_image("the image is empty or not PNG, JPEG, GIF or WebP", &path));
    };
    let mime = if mime.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { mime };
    if !mime.eq_ignore_ascii_case(found.mime) {
        return Err(invalid_image(format!("the image is {}, but labelled {}", found.mime, shown(mime)), &path));
    }
    if found.pixels.is_some_and(|pixels| pixels > MAX_PIXELS) {
        return Err(invalid_image("the image has more than 50 million pixels", &path));
    }
    Ok(Media { mime: found.mime.to_owned(), data: data.into(), detail, ..Media::default() })
}

fn remote(url: &str, detail: String, path: &str) -> Answer<Media> {
    let scheme = url.split("://").next().unwrap_or_default();
    let web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    let address = web && url.len() <= MAX_URL && url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some());
    if !address {
        return Err(invalid_image("the image is neither an http(s) address nor a base64 data URL", path));
    }
    Ok(Media { url: url.to_owned(), detail, ..Media::default() })
}

/// Sound in base64.
pub(crate) fn audio(audio: &InputAudio<'_>, path: &str) -> Answer<Media> {
    let mime = match &*audio.format.0 {
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => {
            return Err(
                Refusal::bad("BODY_INVALID", "format must be wav or mp3").at(format!("{path}.input_audio.format"))
            );
        }
    };
    match decode(&audio.data.0) {
        Some(data) if !data.is_empty() => Ok(Media { mime: mime.to_owned(), data: data.into(), ..Media::default() }),
        _ => Err(Refusal::bad("INVALID_AUDIO", "the sound is not valid base64").at(format!("{path}.input_audio.data"))),
    }
}

/// A document in a data URL.
pub(crate) fn file(file: File<'_>, path: &str) -> Answer<Media> {
    if file.file_id.is_some() {
        let message = "stored files are not available here; send the document as file_data";
        return Err(Refusal::bad("UNSUPPORTED", message).at(format!("{path}.file.file_id")));
    }
    let path = format!("{path}.file.file_data");
    let Some(text) = &file.file_data else { return Err(Refusal::bad("BODY_INVALID", "file_data is missing").at(path)) };
    let Some((mime, data)) = data_url(&text.0) else {
        return Err(Refusal::bad("INVALID_FILE", "file_data must be a base64 data URL").at(path));
    };
    match decode(data) {
        Some(data) if !data.is_empty() => {
            let filename = file.filename.unwrap_or_default();
            Ok(Media { mime: mime.to_ascii_lowercase(), data: data.into(), filename, ..Media::default() })
        }
        _ => Err(Refusal::bad("INVALID_FILE", "the document is empty or not valid base64").at(path)),
    }
}

/// Type and base64 text of `data:<type>[;…];base64,<text>`.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &url[5..])?;
    let (head, data) = rest.split_once(',')?;
    let head = head.strip_suffix(";base64")?;
    Some((head.split(';').next().unwrap_or_default(), data))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

fn invalid_image(message: impl Into<std::borrow::Cow<'static, str>>, path: &str) -> Refusal {
    Refusal::bad("INVALID_IMAGE", message).at(path)
}

/// A label of the client, cut to what fits in a sentence.
fn shown(mime: &str) -> String {
    mime.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

struct Found {
    mime: &'static str,
    /// None = not told where we look.
    pixels: Option<u64>,
}

/// What the first bytes say. SVG is text that may hold programs, and is none of these.
fn sniff(data: &[u8]) -> Option<Found> {
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        let pixels = Some(u64::from(big_32(data, 16)?) * u64::from(big_32(data, 20)?));
        return Some(Found { mime: "image/png", pixels });
    }
    if data.starts_with(b"GIF87a") || data.starts_with(b"GIF89a") {
        let pixels = Some(u64::from(little_16(data, 6)?) * u64::from(little_16(data, 8)?));
        return Some(Found { mime: "image/gif", pixels });
    }
    if data.starts_with(b"\xff\xd8\xff") {
        return Some(Found { mime: "image/jpeg", pixels: jpeg_pixels(data) });
    }
    if data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP") {
        return Some(Found { mime: "image/webp", pixels: webp_pixels(data) });
    }
    None
}

/// Walks the segments of a JPEG to its frame header.
fn jpeg_pixels(data: &[u8]) -> Option<u64> {
    let mut at = 2;
    loop {
        let (fill, marker) = (*data.get(at)?, *data.get(at + 1)?);
        if fill != 0xff {
            return None;
        }
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if is_frame {
            return Some(u64::from(big_16(data, at + 5)?) * u64::from(big_16(data, at + 7)?));
        }
        at += if marker == 0xff { 1 } else { 2 + usize::from(big_16(data, at + 2)?) };
    }
}

fn webp_pixels(data: &[u8]) -> Option<u64> {
    let little_24 = |at| Some(u64::from(little_16(data, at)?) | u64::from(*data.get(at + 2)?) << 16);
    match data.get(12..16)? {
        b"VP8X" => Some((little_24(24)? + 1) * (little_24(27)? + 1)),
        b"VP8 " => Some(u64::from(little_16(data, 26)? & 0x3fff) * u64::from(little_16(data, 28)? & 0x3fff)),
        b"VP8L" => {
            let bits = u64::from(little_16(data, 21)?) | u64::from(little_16(data, 23)?) << 16;
            Some(((bits & 0x3fff) + 1) * ((bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}

fn big_16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn big_32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

fn little_16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::request::Text;
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        data.extend(width.to_be_bytes());
        data.extend(height.to_be_bytes());
        data
    }

    fn from_url(url: &str) -> Answer<Media> {
        image(ImageUrl { url: Text(Cow::Borrowed(url)), detail: None }, "messages[0].content[1]")
    }

    fn from_data(mime: &str, data: &[u8]) -> Answer<Media> {
        from_url(&format!("data:{mime};base64,{}", BASE64.encode(data)))
    }

    #[test]
    fn images_pass_by_address_and_by_data_url() {
        let remote = from_url("https://example.com/cat.png").unwrap();
        let inline = from_data("image/png", &png(10, 10)).unwrap();

        assert_eq!(remote.url, "https://example.com/cat.png");
        assert_eq!((inline.mime.as_str(), inline.data.len()), ("image/png", 24));
    }

    #[test]
    fn false_images_are_refused_where_they_stand() {
        for (name, outcome) in [
            ("not base64", from_url("data:image/png;base64,@@@")),
            ("empty", from_data("image/png", b"")),
            ("svg", from_data("image/svg+xml", b"<svg><script>alert(1)</script></svg>")),
            ("100 megapixels", from_data("image/png", &png(10_000, 10_000))),
            ("wrong label", from_data("image/jpeg", &png(1, 1))),
            ("cut head", from_data("image/png", &png(1, 1)[..20])),
            ("not encoded", from_url("data:image/png,abc")),
            ("another scheme", from_url("file:///etc/passwd")),
            ("no host", from_url("https://")),
        ] {
            let refusal = outcome.expect_err(name);

            assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (400, "INVALID_IMAGE"), "{name}");
            assert_eq!(refusal.error.param(), Some("messages[0].content[1].image_url.url"), "{name}");
        }
    }

    #[test]
    fn sizes_are_read_from_the_head_of_each_format() {
        let mut jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08".to_vec();
        jpeg.extend([0x00, 0x10, 0x00, 0x20]);
        let gif = b"GIF89a\x20\0\x10\0".to_vec();
        let mut webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        webp.extend([0x1f, 0, 0, 0x0f, 0, 0]);

        for data in [png(32, 16), jpeg, gif, webp] {
            assert_eq!(sniff(&data).and_then(|found| found.pixels), Some(512), "{data:?}");
        }
    }

    #[test]
    fn documents_and_sound_are_carried() {
        let text = |text: &'static str| Text(Cow::Borrowed(text));
        let pdf = File {
            file_data: Some(text("data:application/pdf;base64,JVBERg==")),
            file_id: None,
            filename: Some("a.pdf".into()),
        };
        let wav = InputAudio { data: text("UklGRg=="), format: text("wav") };

        let (pdf, wav) = (file(pdf, "p").unwrap(), audio(&wav, "p").unwrap());

        assert_eq!(
            (pdf.mime.as_str(), pdf.filename.as_str(), &*pdf.data),
            ("application/pdf", "a.pdf", b"%PDF".as_slice())
        );
        assert_eq!((wav.mime.as_str(), wav.data.len()), ("audio/wav", 4));
    }
}
