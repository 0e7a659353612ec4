//! What a tenant decides for itself. Pure.

use std::time::Duration;

use manifold_core::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use url::{Origin, Url};

use crate::session::{IDLE, LIFETIME};

const MAX_ORIGINS: usize = 100;
const MAX_ORIGIN: usize = 255;

/// How strangers become members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Anybody who proves an address.
    Open,
    /// Who was invited.
    #[default]
    Invite,
    /// Nobody.
    Closed,
}

/// What a tenant decides for itself. What a row does not tell has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How strangers become members.
    pub registration: Registration,
    /// Members act only after they have proven a second factor.
    pub mfa_required: bool,
    /// A session that is not used for so long is over: 1 to 30 minutes.
    pub session_idle_minutes: u32,
    /// A session is over after this time in any case: 1 to 720 minutes.
    pub session_lifetime_minutes: u32,
    /// Pages of these origins may call the API from browsers, such as `https://app.example`; at most 100.
    pub origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registration: Registration::default(),
            mfa_required: false,
            session_idle_minutes: minutes(IDLE),
            session_lifetime_minutes: minutes(LIFETIME),
            origins: Vec::new(),
        }
    }
}

impl Settings {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// `SETTINGS_INVALID`, which names the field.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, message: String| {
            Err(Error::invalid("SETTINGS_INVALID", message).at(format!("settings.{field}")))
        };
        for (field, given, most) in [
            ("session_idle_minutes", self.session_idle_minutes, minutes(IDLE)),
            ("session_lifetime_minutes", self.session_lifetime_minutes, minutes(LIFETIME)),
        ] {
            if !(1..=most).contains(&given) {
                return wrong(field, format!("it is between 1 and {most} minutes"));
            }
        }
        if self.origins.len() > MAX_ORIGINS {
            return wrong("origins", format!("there are at most {MAX_ORIGINS} origins"));
        }
        for (index, origin) in self.origins.iter().enumerate() {
            if !is_origin(origin) {
                let message = "an origin is scheme, host and perhaps port, such as https://app.example";
                return wrong(&format!("origins[{index}]"), message.to_owned());
            }
        }
        Ok(())
    }

    /// Whether a session that began and was last used at these times is over.
    pub fn is_over(&self, began_at: Timestamp, seen_at: Timestamp, now: Timestamp) -> bool {
        self.end_of(began_at) <= now
            || now.since(seen_at) >= Duration::from_secs(60 * u64::from(self.session_idle_minutes))
    }

    /// When a session ends that began then.
    pub fn end_of(&self, began_at: Timestamp) -> Timestamp {
        began_at.after(Duration::from_secs(60 * u64::from(self.session_lifetime_minutes)))
    }
}

fn minutes(time: Duration) -> u32 {
    u32::try_from(time.as_secs() / 60).unwrap_or(u32::MAX)
}

/// Exactly as browsers write it (RFC 6454 §6.2), of a web page.
fn is_origin(text: &str) -> bool {
    let origin = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).map(|url| url.origin());
    text.len() <= MAX_ORIGIN
        && matches!(&origin, Some(origin @ Origin::Tuple(..)) if origin.ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_long_ago_have_the_defaults() {
        let settings: Settings = serde_json::from_str(r#"{"origins": ["https://a.example"], "gone": 1}"#).unwrap();

        assert_eq!(settings, Settings { origins: vec!["https://a.example".to_owned()], ..Settings::default() });
        assert_eq!((settings.session_idle_minutes, settings.session_lifetime_minutes), (30, 720));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let origins = |origin: &str| Settings { origins: vec![origin.to_owned()], ..Settings::default() };
        for (settings, field) in [
            (Settings { session_idle_minutes: 0, ..Settings::default() }, "settings.session_idle_minutes"),
            (Settings { session_idle_minutes: 31, ..Settings::default() }, "settings.session_idle_minutes"),
            (Settings { session_lifetime_minutes: 721, ..Settings::default() }, "settings.session_lifetime_minutes"),
            (Settings { origins: vec!["https://a.example".into(); 101], ..Settings::default() }, "settings.origins"),
            (origins("https://a.example/"), "settings.origins[0]"),
            (origins("https://A.example"), "settings.origins[0]"),
            (origins("https://a.example:443"), "settings.origins[0]"),
            (origins("*"), "settings.origins[0]"),
            (origins("null"), "settings.origins[0]"),
            (origins("file:///etc"), "settings.origins[0]"),
        ] {
            let error = settings.check().unwrap_err();
            assert_eq!((error.reason(), error.param()), ("SETTINGS_INVALID", Some(field)));
        }
        for origin in ["https://a.example", "http://127.0.0.1:3000", "https://xn--bcher-kva.example:8443"] {
            assert!(origins(origin).check().is_ok(), "{origin}");
        }
    }

    #[test]
    fn a_session_ends_by_disuse_or_by_age() {
        let settings = Settings { session_idle_minutes: 5, session_lifetime_minutes: 60, ..Settings::default() };
        let at = |minutes: i64| Timestamp::from_micros(minutes * 60_000_000);

        assert!(!settings.is_over(at(0), at(10), at(14)));
        assert!(settings.is_over(at(0), at(10), at(15)));
        assert!(settings.is_over(at(0), at(59), at(60)));
    }
}
