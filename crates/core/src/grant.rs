//! Grants: a permission, and perhaps for which things only. Pure.
//!
//! `service.resource.action[@label,…]`. The last part of a permission may be `*`, which stands for everything below. With
//! labels a grant is for things that have, of each kind, one of them: `keys.key.*@own,env:test` is for one's own keys that are
//! for testing. The kind of a label is what stands before its colon, or all of it.

/// On a grant that holds under a condition, which was met when the call began: it works, and cannot be passed on.
pub const NOW: &str = "now";

/// A grant, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'g> {
    /// What it permits.
    pub permission: &'g str,
    /// For which things, with commas between; empty = for all.
    labels: &'g str,
}

impl<'g> Grant<'g> {
    /// Reads what a principal, a role or a key holds.
    pub fn read(text: &'g str) -> Self {
        let (permission, labels) = text.split_once('@').unwrap_or((text, ""));
        Self { permission, labels }
    }

    /// Its labels.
    pub fn labels(self) -> impl Iterator<Item = &'g str> {
        self.labels.split(',').filter(|label| !label.is_empty())
    }

    /// Whether it is for every thing.
    pub fn is_for_all(self) -> bool {
        self.labels().all(|label| label == NOW)
    }

    /// Whether it is for a thing that has these labels.
    pub fn is_for(self, thing: &[&str]) -> bool {
        let met = |label: &str| label == NOW || self.of_kind(kind(label)).any(|one| thing.contains(&one));
        self.labels().all(met)
    }

    /// Whether everything that the other permits is permitted by this one, at any time.
    pub fn covers(self, other: Self) -> bool {
        let kept = |label: &'g str| {
            let mut others = other.of_kind(kind(label)).peekable();
            others.peek().is_some() && others.all(|one| self.labels().any(|own| own == one))
        };
        permission_matches(self.permission, other.permission) && self.labels().all(|label| label != NOW && kept(label))
    }

    fn of_kind(self, wanted: &str) -> impl Iterator<Item = &'g str> {
        self.labels().filter(move |label| kind(label) == wanted)
    }
}

fn kind(label: &str) -> &str {
    label.split_once(':').map_or(label, |(kind, _)| kind)
}

/// Whether `grant` covers `permission`: equal, or equal up to a last part `*`, which stands for everything below.
pub fn permission_matches(grant: &str, permission: &str) -> bool {
    match grant.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && permission.starts_with(prefix),
        None => grant == permission,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_covers_what_is_below_it_and_nothing_else() {
        for (grant, permission, covers) in [
            ("*", "keys.key.read", true),
            ("keys.*", "keys.key.read", true),
            ("keys.key.read", "keys.key.read", true),
            ("keys.key.*", "keys.key.write", true),
            ("keys.*", "keysmith.key.read", false),
            ("key*", "keys.key.read", false),
            ("keys.key.read", "keys.key.write", false),
        ] {
            assert_eq!(permission_matches(grant, permission), covers, "{grant} {permission}");
        }
    }

    #[test]
    fn labels_say_for_which_things() {
        for (grant, thing, is_for) in [
            ("a.b.c", &[][..], true),
            ("a.b.c@own", &["own"], true),
            ("a.b.c@own", &[], false),
            ("a.b.c@own", &["env:test"], false),
            ("a.b.c@env:live,env:test", &["env:test"], true),
            ("a.b.c@own,env:test", &["env:test", "own", "api:x"], true),
            ("a.b.c@own,env:test", &["env:live", "own"], false),
            ("a.b.c@now", &[], true),
            ("a.b.c@own,now", &[], false),
            ("a.b.c@now", &["now"], true),
        ] {
            assert_eq!(Grant::read(grant).is_for(thing), is_for, "{grant} {thing:?}");
        }
    }

    #[test]
    fn nothing_is_covered_by_less_than_itself() {
        for (grant, other, covers) in [
            ("*", "keys.key.*@own", true),
            ("keys.*", "keys.key.read", true),
            ("keys.key.*@own", "keys.key.read@own,env:test", true),
            ("keys.key.*@own", "keys.key.read", false),
            ("keys.key.*@env:test,env:live", "keys.key.read@env:test", true),
            ("keys.key.*@env:test", "keys.key.read@env:test,env:live", false),
            ("keys.key.*@env:test", "keys.key.read@own", false),
            ("keys.key.*@now", "keys.key.read", false),
            ("keys.key.*", "keys.key.read@now", true),
        ] {
            assert_eq!(Grant::read(grant).covers(Grant::read(other)), covers, "{grant} {other}");
        }
    }
}
