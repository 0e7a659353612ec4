//! Permission strings of new keys: their form, and that nobody gives away what he does not hold. Pure.

pub mod query;

use manifold_core::{Code, Error, Principal, Result};

/// What a key may do when its maker names nothing.
pub const DEFAULT: &str = "ai.inference.run";

const MAX_PERMISSIONS: usize = 100;
const MAX_LENGTH: usize = 100;
/// Labels of one grant.
const MAX_LABELS: usize = 10;

/// Checks what a new key shall hold against its maker.
pub fn check_grants(maker: &Principal, permissions: &[String]) -> Result<()> {
    if permissions.len() > MAX_PERMISSIONS {
        let message = format!("a key can have at most {MAX_PERMISSIONS} permissions");
        return Err(Error::invalid("PERMISSION_INVALID", message).at("permissions"));
    }
    for (index, permission) in permissions.iter().enumerate() {
        check_form(permission).map_err(|error| error.at(format!("permissions[{index}]")))?;
        if !maker.covers(permission) {
            let message = format!("a key cannot be given {permission}, which its maker does not hold");
            return Err(Error::new(Code::Denied, "ESCALATION", message).at(format!("permissions[{index}]")));
        }
    }
    Ok(())
}

/// Refuses what is no grant: a permission, and perhaps an `@` and the labels of things that it is for.
///
/// # Errors
/// `PERMISSION_INVALID`.
pub fn check_form(text: &str) -> Result<()> {
    let (permission, labels) =
        text.split_once('@').map_or((text, None), |(permission, labels)| (permission, Some(labels)));
    let labelled = labels.is_none_or(|labels| labels.split(',').all(is_label));
    if text.len() <= MAX_LENGTH && is_permission(permission) && labelled {
        return Ok(());
    }
    let message = "a permission is service.resource.action in lower case, its last part may be *, and after an @ it may name \
                   the things that it is for: own, env:live, env:test, api:<name>";
    Err(Error::invalid("PERMISSION_INVALID", message))
}

/// Refuses what things are not labelled with.
///
/// # Errors
/// `PERMISSION_INVALID`.
pub fn check_labels(labels: &[String]) -> Result<()> {
    if labels.len() <= MAX_LABELS && labels.iter().all(|label| label.len() <= MAX_LENGTH && is_label(label)) {
        return Ok(());
    }
    let message = format!("labels are own, env:live, env:test and api:<name>, and at most {MAX_LABELS}");
    Err(Error::invalid("PERMISSION_INVALID", message))
}

fn is_label(text: &str) -> bool {
    matches!(text, "own" | "env:live" | "env:test") || text.strip_prefix("api:").is_some_and(is_name)
}

/// `service.resource.action`, `service.resource.*`, `service.*` or `*`.
fn is_permission(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let (named, complete) = match parts.split_last() {
        Some((&"*", named)) => (named, named.len() <= 2),
        _ => (parts.as_slice(), parts.len() == 3),
    };
    complete && named.iter().all(|part| is_name(part))
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use manifold_core::{SubjectKind, TenantId};
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
    fn labels_say_what_a_permission_is_for() {
        for text in ["keys.key.*@own", "keys.*@env:test,own", "ai.inference.run@api:weather", "*"] {
            assert!(check_form(text).is_ok(), "{text}");
        }
        let long = format!("a.b.c@{}", vec!["own"; 60].join(","));
        for text in
            ["keys.key.read@", "keys.key.read@now", "keys.key.read@own,", "@own", "a.b.c@env:prod", "a.b.c@api:", &long]
        {
            assert_eq!(check_form(text).unwrap_err().reason(), "PERMISSION_INVALID", "{text}");
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
        "(\\*|[ab]\\.\\*|[ab]\\.[ab]\\.\\*|[ab]\\.[ab]\\.[ab])(@(own|env:live|env:test)(,(own|env:test))?)?"
    }

    proptest! {
        #[test]
        fn whatever_a_new_key_may_do_its_maker_may(
            held in prop::collection::vec(some_permission(), 0..4),
            given in prop::collection::vec(some_permission(), 1..4),
            action in "[ab]\\.[ab]\\.[ab]",
            thing in prop::sample::subsequence(vec!["own", "env:live", "env:test"], 0..=3),
        ) {
            let maker = maker(&held);
            let given: Vec<_> = given.into_iter().filter(|grant| check_grants(&maker, std::slice::from_ref(grant)).is_ok()).collect();
            let made = Principal { permissions: given.into(), ..maker.clone() };

            prop_assert!(!made.allows_on(&action, &thing) || maker.allows_on(&action, &thing));
        }
    }
}
