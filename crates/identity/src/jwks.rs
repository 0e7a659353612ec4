//! The keys that sign access tokens, as this process knows them: which one signs, which ones verify, and the public document
//! of them (RFC 7517, RFC 8037). Pure; how keys take turns is in `jwks/turn.rs`.
//!
//! A signature (RFC 7515) is checked without reading anything that the presenter wrote. The only headers that we ever sign are
//! those of our own keys, letter by letter, so a header is a name under which there is a key, or there is none: no other
//! algorithm, no other type of token and no `jku`, `x5u`, `jwk`, `x5c` or `crit` can be said (RFC 8725). A general library
//! would parse all of that first, and bring its own compile time; the Ed25519 of `ring` is compiled anyway.

pub mod turn;

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifold_core::{Error, Result, Secret};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::vault::envelope::KeyBytes;

/// The only algorithm of our keys.
pub const ALGORITHM: &str = "EdDSA";
/// The type of an access token (RFC 9068). No other token of ours may have it.
const TYPE: &str = "at+jwt";

/// The public part of a key, as everybody may read it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: String,
    crv: String,
    alg: String,
    #[serde(rename = "use")]
    purpose: String,
    kid: String,
    x: String,
}

impl Jwk {
    /// Of an Ed25519 key (RFC 8037).
    pub fn new(kid: &str, public: &[u8]) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: ALGORITHM.to_owned(),
            purpose: "sig".to_owned(),
            kid: kid.to_owned(),
            x: URL_SAFE_NO_PAD.encode(public),
        }
    }

    fn bytes(&self) -> Option<[u8; 32]> {
        URL_SAFE_NO_PAD.decode(&self.x).ok()?.try_into().ok()
    }
}

/// All keys of the installation.
pub struct Keyring {
    header: String,
    pair: Ed25519KeyPair,
    /// By the header of the tokens that they sign.
    keys: HashMap<String, UnparsedPublicKey<[u8; 32]>>,
    document: String,
}

impl Keyring {
    /// From the public parts of all keys, and the private part of the one that signs.
    pub fn new(public: &[Jwk], active: &str, seed: &KeyBytes) -> Result<Self> {
        let broken = || Error::internal("a signing key is not what it was");
        let signs = public.iter().find(|key| key.kid == active).and_then(Jwk::bytes).ok_or_else(broken)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed.expose(), &signs);
        let pair = pair.map_err(|_| broken())?;
        let mut keys = HashMap::new();
        for key in public {
            let bytes = key.bytes().ok_or_else(broken)?;
            keys.insert(header(&key.kid), UnparsedPublicKey::new(&ED25519, bytes));
        }
        let document = serde_json::json!({ "keys": public }).to_string();
        Ok(Self { header: header(active), pair, keys, document })
    }

    /// The document that tells everybody how to verify.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// A token with this payload.
    pub fn sign(&self, payload: &[u8]) -> Secret<String> {
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(signed.as_bytes());
        Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The payload of a token that one of the keys signed.
    pub fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let key = self.keys.get(header)?;
        key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        URL_SAFE_NO_PAD.decode(payload).ok()
    }
}

/// The public part of a private key.
fn public_of(seed: &KeyBytes) -> Result<[u8; 32]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose());
    let pair = pair.map_err(|_| Error::internal("make a signing key"))?;
    pair.public_key().as_ref().try_into().map_err(|_| Error::internal("a public key has another length"))
}

/// The header of every token that a key signs.
fn header(kid: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{ALGORITHM}","typ":"{TYPE}","kid":"{kid}"}}"#))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    /// A keyring of one key whose name is `kid`.
    pub(crate) fn keyring(kid: &str) -> Keyring {
        let seed = Secret::new(SEED);
        Keyring::new(&[Jwk::new(kid, &public_of(&seed).unwrap())], kid, &seed).unwrap()
    }

    /// A token with another header, signed by the right key.
    fn with_header(header: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
    }

    #[test]
    fn signs_the_published_vector() {
        // RFC 8037, appendix A.4 and A.2.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let seed = Secret::new(seed.try_into().unwrap());
        let public = public_of(&seed).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).unwrap();
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";

        assert_eq!(Jwk::new("k", &public).x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(
            URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn what_is_signed_comes_back_and_nothing_else_does() {
        let ring = keyring("sig_a");
        let token = ring.sign(b"{\"a\":1}").expose().clone();
        assert_eq!(ring.verify(&token).as_deref(), Some(b"{\"a\":1}".as_slice()));

        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(ring.verify(&String::from_utf8(changed).unwrap()), None, "at {position}");
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        for wrong in
            ["", ".", "..", "...", signed, &format!("{signed}."), &format!("{token}="), &format!("{token}.{signature}")]
        {
            assert_eq!(ring.verify(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_header_but_our_own_is_known_even_with_the_right_signature() {
        let ring = keyring("sig_a");
        let ours = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"sig_a"}"#;
        assert!(ring.verify(&with_header(ours)).is_some());

        for alg in ["none", "None", "nOnE", "NONE", "HS256", "RS256", "ES256", "Ed25519", "eddsa", ""] {
            assert_eq!(ring.verify(&with_header(&ours.replace("EdDSA", alg))), None, "{alg}");
        }
        for typ in ["JWT", "at+JWT", "application/at+jwt", ""] {
            assert_eq!(ring.verify(&with_header(&ours.replace("at+jwt", typ))), None, "{typ}");
        }
        let long = "k".repeat(10_240);
        for kid in ["../../dev/null", "' OR 1=1--", &long, "🔑", "\\u0000", "sig_b", ""] {
            assert_eq!(ring.verify(&with_header(&ours.replace("sig_a", kid))), None, "{kid:.40}");
        }
        for kid in ["1", "[\"sig_a\"]", "null"] {
            assert_eq!(ring.verify(&with_header(&ours.replace("\"sig_a\"", kid))), None, "{kid}");
        }
        for more in [
            r#""jku":"https://evil.example/jwks.json""#,
            r#""x5u":"https://evil.example/cert.pem""#,
            r#""jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#""x5c":["MIIB"]"#,
            r#""crit":["exp"],"exp":1"#,
            r#""kid":"sig_a""#,
        ] {
            assert_eq!(ring.verify(&with_header(&ours.replace('}', &format!(",{more}}}")))), None, "{more}");
        }
        assert_eq!(ring.verify(&with_header(r#"{"alg":"EdDSA","typ":"at+jwt"}"#)), None, "without a key");
    }

    #[test]
    fn no_signature_of_another_algorithm_over_our_public_key_holds() {
        use hmac::{Hmac, KeyInit, Mac};
        let ring = keyring("sig_a");
        let public = public_of(&Secret::new(SEED)).unwrap();
        let der = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), &public].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(&der)
        );
        let jwk = serde_json::to_string(&Jwk::new("sig_a", &public)).unwrap();

        for key in [public.as_slice(), &der, pem.as_bytes(), jwk.as_bytes()] {
            for header in [header("sig_a"), URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"at+jwt","kid":"sig_a"}"#)] {
                let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("{}"));
                let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
                mac.update(signed.as_bytes());
                let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
                assert_eq!(ring.verify(&token), None);
            }
        }
    }

    #[test]
    fn the_document_shows_public_parts_only() {
        let ring = keyring("sig_a");

        let document: serde_json::Value = serde_json::from_str(ring.document()).unwrap();

        let key = &document["keys"][0];
        assert_eq!(key.as_object().unwrap().len(), 6);
        assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into()));
        assert_eq!((&key["use"], &key["kid"]), (&"sig".into(), &"sig_a".into()));
        assert!(!ring.document().contains(&URL_SAFE_NO_PAD.encode(SEED)));
    }

    #[test]
    fn a_private_part_that_belongs_to_another_key_is_refused() {
        let jwk = Jwk::new("sig_a", &public_of(&Secret::new([8; 32])).unwrap());

        assert!(Keyring::new(std::slice::from_ref(&jwk), "sig_a", &Secret::new(SEED)).is_err());
        assert!(Keyring::new(&[jwk], "sig_b", &Secret::new([8; 32])).is_err());
    }
}
