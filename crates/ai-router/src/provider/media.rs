//! Images, sounds and documents as JSON: encoded while they are written, never copied before.

use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use manifold_contract::ai::v1::Media;
use serde::{Serialize, Serializer};

use crate::classify::{Class, Failure};

/// Bytes as base64.
pub(super) struct Base64<'a>(pub &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Where a medium is: its own address, or a data URL of its bytes.
pub(super) struct Address<'a>(pub &'a Media);

impl fmt::Display for Address<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.data.is_empty() {
            return formatter.write_str(&self.0.url);
        }
        write!(formatter, "data:{};base64,{}", self.0.mime, Base64Display::new(&self.0.data, &STANDARD))
    }
}

impl Serialize for Address<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.data.is_empty() { serializer.serialize_str(&self.0.url) } else { serializer.collect_str(self) }
    }
}

/// The bytes, for providers that fetch nothing.
pub(super) fn bytes(media: &Media) -> Result<&[u8], Failure> {
    if media.data.is_empty() {
        return Err(
            Failure::new(Class::Invalid, "this provider takes media only as bytes, not by address").at("messages")
        );
    }
    Ok(&media.data)
}

/// OpenAI's word for the format of a sound.
pub(super) fn sound_format(mime: &str) -> &str {
    match mime {
        "audio/mpeg" | "audio/mp3" => "mp3",
        "audio/wav" | "audio/x-wav" | "audio/wave" | "" => "wav",
        other => other.strip_prefix("audio/").unwrap_or(other),
    }
}
