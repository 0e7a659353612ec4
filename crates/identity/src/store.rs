//! All SQL. Every statement on a tenant's rows names the tenant, except the look-ups by secret, which find out whose it is,
//! and those on the sessions of a person, who has them in several tenants.

pub mod account;
pub mod attempt;
pub mod audit;
pub mod credit;
pub mod factor;
pub mod incident;
pub mod key;
pub mod limit;
pub mod member;
pub mod one_time;
pub mod owner;
pub mod refresh;
pub mod reminder;
pub mod reseal;
pub mod revocation;
pub mod role;
pub mod rotation;
pub mod secret;
pub mod session;
pub mod signing;
pub mod system;
pub mod tenant;
pub mod usage;
pub mod user;
pub mod vault;

#[cfg(test)]
mod tests {
    #[test]
    fn every_statement_on_keys_names_the_tenant_except_the_look_up_by_secret() {
        let source = include_str!("store/key.rs");
        let functions: Vec<_> = source.split("pub async fn ").skip(1).collect();

        let without_tenant =
            functions.iter().filter(|text| !text.contains("tenant_id") && !text.contains("select_keys!"));
        let by_secret = functions.iter().filter(|text| text.contains("WHERE s.lookup = $1"));

        assert_eq!(functions.len(), 9);
        assert_eq!(without_tenant.count(), 0);
        assert!(by_secret.count() == 1 && source.contains("WHERE k.tenant_id = $1 AND "));
    }

    #[test]
    fn every_statement_on_credits_owners_and_rotations_names_the_tenant() {
        let sources =
            [include_str!("store/credit.rs"), include_str!("store/owner.rs"), include_str!("store/rotation.rs")];
        for source in sources {
            for function in source.split("pub async fn ").skip(1) {
                let named = function.contains("tenant_id = $1") || function.contains("(tenant_id, ");
                assert!(named, "{function}");
            }
        }
    }

    #[test]
    fn every_statement_on_members_names_the_tenant_except_the_look_up_by_token() {
        let source = include_str!("store/member.rs");
        let functions: Vec<_> = source.split("pub async fn ").skip(1).collect();

        let without = functions.iter().filter(|text| {
            let named = ["tenant_id = $1", "tenant_id <> $1", "(tenant_id,", "select_members!("];
            !named.iter().any(|name| text.contains(name))
        });
        let without: Vec<_> = without.filter_map(|text| text.split('(').next()).collect();

        let (_, shared) = source.split_once("macro_rules! select_members").unwrap();
        assert!(shared.split("$chosen,").next().unwrap().contains("m.tenant_id = $1"));
        assert_eq!(without, ["lock", "find_invitation"], "of which the first names the tenant itself");
    }
}
