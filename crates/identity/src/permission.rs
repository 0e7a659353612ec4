//! Permission strings of new keys: their form, and that nobody gives away what he does not hold. Pure.

use manifold_core::{Code, Error, Principal, Result};

/// What a key may do when its maker names nothing.
pub const DEFAULT: &str = "ai.inference.run";

const MAX_PERMISSIONS: usize = 100;
const MAX_LENGTH: usize = 100;

/// Checks what a new key shall hold against its maker.
pub fn check_grants(maker: &Principal, permissions: &[String]) -> Result<()> {
    if permissions.len() > MAX_PERMISSIONS {
        let message = format!("a key can have at most {MAX_PERMISSIONS} permissions");
        return Err(Error::invalid("PERMISSION_INVALID", message).at("permissions"));
    }
    for (index, permission) in permissions.iter().enumerate() {
        if !is_permission(permission) {
            let message = "a permission is service.resource.action in lower case, and its last part may be *";
            return Err(Error::invalid("PERMISSION_INVALID", message).at(format!("permissions[{index}]")));
        }
        if !maker.allows(permission) {
            let message = format!("a key cannot be given {permission}, which its maker does not hold");
            return Err(Error::new(Code::Denied, "ESCALATION", message).at(format!("permissions[{index}]")));
        }
    }
    Ok(())
}

/// `service.resource.action`, `service.resource.*`, `service.*` or `*`.
fn is_permission(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let (named, complete) = match parts.split_last() {
        Some((&"*", named)) => (named, named.len() <= 2),
        _ => (parts.as_slice(), parts.len() == 3),
    };
    complete && text.len() <= MAX_LENGTH && named.iter().all(|part| is_name(part))
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use manifold_core::{SubjectKind, TenantId, permission_matches};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn maker(permissions: &[String]) -> Principal {
        Principal {
            tenant: TenantId(Uuid::nil()),
            subject: "key_x".into(),
            kind: SubjectKind::Key,
            key: None,
            permissions: permissions.into(),
            environment: "live".into(),
            ..Principal::anonymous()
        }
    }

    #[test]
    fn knows_permissions_by_their_form() {
        for text in ["*", "keys.*", "keys.key.*", "keys.key.read", "ai.fine_tuning.run-2"] {
            assert!(is_permission(text), "{text}");
        }
        for text in ["", ".", "keys", "keys.key", "keys.key.read.more", "a.b.c.*", "*.*", "*.key.read", "Keys.key.read"]
        {
            assert!(!is_permission(text), "{text}");
        }
        for text in ["keys..read", "keys.key.", " keys.key.read", "keys.k*", "keys.key.réad"] {
            assert!(!is_permission(text), "{text}");
        }
    }

    #[test]
    fn nobody_gives_away_what_he_does_not_hold() {
        let maker = maker(&["keys.key.*".to_owned(), "ai.inference.run".to_owned()]);

        for held in ["keys.key.read", "keys.key.*", "ai.inference.run"] {
            assert!(check_grants(&maker, &[held.to_owned()]).is_ok(), "{held}");
        }
        for wanted in ["*", "keys.*", "ai.*", "ai.inference.*", "ai.usage.read"] {
            let error = check_grants(&maker, &["keys.key.read".to_owned(), wanted.to_owned()]).unwrap_err();
            assert_eq!((error.code(), error.reason()), (Code::Denied, "ESCALATION"), "{wanted}");
            assert_eq!(error.param(), Some("permissions[1]"));
        }
    }

    #[test]
    fn the_number_of_permissions_is_bounded() {
        let maker = maker(&["*".to_owned()]);

        assert!(check_grants(&maker, &vec!["a.b.c".to_owned(); 100]).is_ok());
        assert_eq!(check_grants(&maker, &vec!["a.b.c".to_owned(); 101]).unwrap_err().param(), Some("permissions"));
    }

    fn some_permission() -> impl Strategy<Value = String> {
        "(\\*|[ab]\\.\\*|[ab]\\.[ab]\\.\\*|[ab]\\.[ab]\\.[ab])"
    }

    proptest! {
        #[test]
        fn whatever_a_new_key_may_do_its_maker_may(
            held in prop::collection::vec(some_permission(), 0..4),
            given in prop::collection::vec(some_permission(), 1..4),
            action in "[ab]\\.[ab]\\.[ab]",
        ) {
            let maker = maker(&held);
            prop_assume!(check_grants(&maker, &given).is_ok());
            prop_assume!(given.iter().any(|grant| permission_matches(grant, &action)));

            prop_assert!(maker.allows(&action));
        }
    }
}
