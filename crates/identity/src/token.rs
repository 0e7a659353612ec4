//! What an access token says (RFC 9068), and when it holds. Pure; signatures are in `jwks`. A token says who somebody is and
//! by which session, never what he may do: that is read from the roles, so that it changes at once.

pub mod check;
pub mod issue;

use std::time::Duration;

use manifold_core::{SessionId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::jwks::Keyring;

/// How long an access token works.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 30;
/// No token works for so many seconds, whoever signed it.
const TOO_LONG: i64 = 3_600;
/// Longest token that is looked at; ours have about 600 characters.
pub const MAX_LENGTH: usize = 2_048;

/// What is written in a token. What we do not know we did not write: an unknown claim is refused, as is one said twice.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it: the public address of the installation.
    pub iss: String,
    /// The person, `usr_…`.
    pub sub: String,
    /// For whom it is: the installation itself.
    pub aud: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// From when on it works.
    pub nbf: i64,
    /// Its own name.
    pub jti: String,
    /// Where the person acts, `ten_…`.
    pub tid: String,
    /// The session behind it, `ses_…`.
    pub sid: String,
    /// How often the person's password had changed.
    #[serde(rename = "gen")]
    pub generation: i64,
    /// When the person logged in.
    pub auth_time: i64,
    /// How the person proved to be one (RFC 8176).
    pub amr: Vec<String>,
}

/// Whom a token that holds is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The person.
    pub user: UserId,
    /// Where the person acts.
    pub tenant: TenantId,
    /// The session behind it.
    pub session: SessionId,
    /// How often the person's password had changed.
    pub generation: i64,
    begins: i64,
    issued: i64,
    ends: i64,
}

impl Bearer {
    /// Whether the token works now.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        let now = seconds(now);
        let began = self.begins <= now + LEEWAY && self.issued <= now + LEEWAY;
        began && now < self.ends.saturating_add(LEEWAY) && self.ends < self.issued.saturating_add(TOO_LONG)
    }
}

/// Whom a token is about; None unless one of our keys signed it, for this installation, and it works now.
pub fn read(ring: &Keyring, issuer: &str, token: &str, now: Timestamp) -> Option<Bearer> {
    if token.len() > MAX_LENGTH {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&ring.verify(token)?).ok()?;
    if claims.iss != issuer || claims.aud != issuer {
        return None;
    }
    let bearer = Bearer {
        user: UserId::parse(&claims.sub)?,
        tenant: TenantId::parse(&claims.tid)?,
        session: SessionId::parse(&claims.sid)?,
        generation: claims.generation,
        begins: claims.nbf,
        issued: claims.iat,
        ends: claims.exp,
    };
    bearer.is_in_time(now).then_some(bearer)
}

/// As tokens count time.
pub fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use manifold_core::{Ids, Secret};
    use serde_json::{Value, json};

    use super::*;
    use crate::jwks::tests::keyring;

    const NOW: i64 = 1_763_629_200;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn claims() -> Value {
        let ids = Ids::default();
        json!({
            "iss": "https://api.example", "sub": UserId(ids.next()).to_string(), "aud": "https://api.example",
            "exp": NOW + 600, "iat": NOW, "nbf": NOW, "jti": "j", "tid": TenantId(ids.next()).to_string(),
            "sid": SessionId(ids.next()).to_string(), "gen": 3, "auth_time": NOW, "amr": ["pwd"]
        })
    }

    fn sign(claims: &str) -> Secret<String> {
        keyring("sig_a").sign(claims.as_bytes())
    }

    fn holds(claims: &str, now: i64) -> bool {
        read(&keyring("sig_a"), "https://api.example", sign(claims).expose(), at(now)).is_some()
    }

    fn with(name: &str, value: Value) -> String {
        let mut changed = claims();
        changed[name] = value;
        changed.to_string()
    }

    #[test]
    fn a_token_tells_whom_it_is_about() {
        let claims = claims();
        let ring = keyring("sig_a");

        let bearer = read(&ring, "https://api.example", sign(&claims.to_string()).expose(), at(NOW)).unwrap();

        assert_eq!((bearer.user.to_string().as_str(), bearer.generation), (claims["sub"].as_str().unwrap(), 3));
        assert_eq!(bearer.tenant.to_string(), claims["tid"].as_str().unwrap());
        assert_eq!(bearer.session.to_string(), claims["sid"].as_str().unwrap());
    }

    #[test]
    fn a_token_works_from_its_beginning_to_its_end_and_clocks_may_differ_by_thirty_seconds() {
        let text = claims().to_string();
        for (now, expected) in [
            (NOW - 31, false),
            (NOW - 30, true),
            (NOW, true),
            (NOW + 629, true),
            (NOW + 630, false),
            (NOW + 9_999, false),
        ] {
            assert_eq!(holds(&text, now), expected, "{}", now - NOW);
        }
        for (name, value, expected) in [
            ("nbf", NOW + 31, false),
            ("nbf", NOW + 30, true),
            ("nbf", NOW - 1_000_000, true),
            ("iat", NOW + 31, false),
            ("iat", i64::MIN, false),
            ("iat", i64::MAX, false),
            ("exp", NOW + 3_599, true),
            ("exp", NOW + 3_600, false),
            ("exp", i64::MAX, false),
            ("exp", NOW - 30, false),
            ("exp", 0, false),
            ("exp", -1, false),
            ("nbf", i64::MAX, false),
        ] {
            assert_eq!(holds(&with(name, json!(value)), NOW), expected, "{name} {value}");
        }
    }

    #[test]
    fn claims_that_are_missing_of_another_kind_unknown_or_said_twice_are_refused() {
        let whole = claims();
        assert!(holds(&whole.to_string(), NOW));
        for name in whole.as_object().unwrap().keys() {
            let mut cut = whole.clone();
            cut.as_object_mut().unwrap().remove(name);
            assert!(!holds(&cut.to_string(), NOW), "without {name}");
            assert!(!holds(&with(name, json!(null)), NOW), "{name} of null");
            let twice = whole.to_string().replacen('{', &format!("{{\"{name}\":{},", whole[name]), 1);
            assert!(!holds(&twice, NOW), "{name} twice");
        }
        for time in ["exp", "iat", "nbf"] {
            for text in ["1e308", "\"1763629800\"", "1763629800.5", "true", "[1763629800]", "9223372036854775808"] {
                let plain = format!("\"{time}\":{}", whole[time]);
                let changed = whole.to_string().replace(&plain, &format!("\"{time}\":{text}"));
                assert_ne!(changed, whole.to_string());
                assert!(!holds(&changed, NOW), "{time} {text}");
            }
        }
        for (name, value) in [("scope", json!("ai.inference.run")), ("permissions", json!(["*"])), ("cnf", json!({}))] {
            assert!(!holds(&with(name, value), NOW), "{name}");
        }
    }

    #[test]
    fn a_token_of_or_for_somebody_else_is_refused() {
        for (name, value) in [
            ("iss", json!("https://evil.example")),
            ("iss", json!("https://api.example/")),
            ("aud", json!("https://api.example/mcp")),
            ("aud", json!(["https://api.example"])),
            ("sub", json!("key_01h455vb4pex5vsknk084sn02q")),
            ("sub", json!("")),
            ("tid", json!("ten_1")),
            ("sid", json!("usr_01h455vb4pex5vsknk084sn02q")),
        ] {
            assert!(!holds(&with(name, value.clone()), NOW), "{name} {value}");
        }
    }

    #[test]
    fn what_is_signed_but_is_no_claim_set_is_refused() {
        for text in ["", "null", "[]", "{}", "{", "garbage", "\u{0}"] {
            assert!(!holds(text, NOW), "{text}");
        }
        let long = with("jti", json!("j".repeat(2_000)));
        assert!(!holds(&long, NOW));
    }
}
