//! Names of cached values: whose they are, which kind, which one.

use std::fmt;
use std::sync::Arc;

use manifold_core::TenantId;

/// Values that are invalidated together. Those of one tenant are never those of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// None = the house itself.
    tenant: Option<TenantId>,
    name: Arc<str>,
}

/// One value of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    group: Group,
    id: Arc<str>,
}

impl Group {
    /// Values of a tenant.
    pub fn of_tenant(tenant: TenantId, name: impl Into<Arc<str>>) -> Self {
        Self { tenant: Some(tenant), name: name.into() }
    }

    /// Values that are the same for all tenants.
    pub fn of_house(name: impl Into<Arc<str>>) -> Self {
        Self { tenant: None, name: name.into() }
    }

    /// One value of it.
    pub fn key(&self, id: impl Into<Arc<str>>) -> Key {
        Key { group: self.clone(), id: id.into() }
    }
}

impl Key {
    /// The group of the value.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.group.name.len() + self.id.len()
    }
}

/// No two groups are printed the same, nor is a group as a key: lengths stand before names, and only keys go on after `=`.
impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant {
            Some(tenant) => write!(formatter, "{}", tenant.0.simple())?,
            None => formatter.write_str("house")?,
        }
        write!(formatter, ":{}:{}", self.name.len(), self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.group, self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_values_have_one_name() {
        let mut names = HashSet::new();
        for tenant in [1, 2] {
            let tenant = TenantId(uuid::Uuid::from_u128(tenant));
            for name in ["a", "a=b", "a:1:b", "", "=", "1:a"] {
                for group in [Group::of_tenant(tenant, name), Group::of_house(format!("{}/{name}", tenant.0))] {
                    assert!(names.insert(group.to_string()));
                    for id in ["", "b", "=b", "b=", ":", "1:b"] {
                        assert!(names.insert(group.key(id).to_string()), "{group} {id}");
                    }
                }
            }
        }
    }
}
