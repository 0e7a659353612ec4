//! The contract of the public door: every handler with its documentation, and what the document says beside them.

mod published;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::published::publish;
use self::published::{ACCESS_TOKEN, SESSION};
use crate::edge::House;
use crate::openai::{chat, embeddings, models};
use crate::problem::{Fault, Problem};
use crate::rest::roles::Permission;
use crate::rest::{
    audit, auth, batch, document, errors, factors, incidents, invitations, key_update, key_verify, keys, limits, mail,
    owners, passwords, probes, roles, rotation, secrets, sessions, signing, tenants, tokens, usage, users, vault,
};
use crate::routes::documented;

const TAGS: [(&str, &str); 14] = [
    ("Chat", "Conversations with models, in OpenAI's format"),
    ("Embeddings", "Vectors of texts, in OpenAI's format"),
    ("Models", "What can be called, in OpenAI's format"),
    ("Keys", "API keys of a tenant"),
    ("Limits", "What single keys and people may ask for, beside the limits that everybody meets"),
    ("Sessions", "Logging in and out, and where one is logged in"),
    ("Tenants", "Who is apart from whom"),
    ("Users", "People, their roles and invitations"),
    ("Roles", "What people may do"),
    ("Audit", "What was done, by whom, and whether the record of it is whole"),
    ("Secrets", "What a tenant keeps sealed, and the key that seals it"),
    ("Batches", "Several requests in one"),
    ("Probes", "Whether the process lives and serves"),
    ("Documents", "Contracts"),
];

/// All handlers, and the document of all of them.
pub(crate) fn api() -> (Router<Arc<House>>, OpenApi) {
    OpenApiRouter::with_openapi(base())
        .routes(routes!(chat::create_chat_completion))
        .routes(routes!(embeddings::create_embedding))
        .routes(routes!(models::list_models))
        .routes(routes!(models::get_model))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(keys::get_key, key_update::update_key, keys::revoke_key))
        .routes(routes!(key_verify::verify_key))
        .routes(routes!(rotation::rotate_key))
        .routes(routes!(rotation::finish_key_rotation))
        .routes(routes!(rotation::cancel_key_rotation))
        .routes(routes!(usage::get_key_usage))
        .routes(routes!(limits::get_limits, limits::set_limits, limits::delete_limits))
        .routes(routes!(owners::create_owner, owners::list_owners))
        .routes(routes!(owners::get_owner, owners::update_owner, owners::delete_owner))
        .routes(routes!(owners::get_owner_usage))
        .routes(routes!(audit::list_audit_entries))
        .routes(routes!(audit::export_audit_entries))
        .routes(routes!(audit::verify_audit_chain))
        .routes(routes!(incidents::list_incidents))
        .routes(routes!(incidents::acknowledge_incident))
        .routes(routes!(incidents::list_blocks))
        .routes(routes!(incidents::remove_block))
        .routes(routes!(auth::set_up))
        .routes(routes!(auth::register))
        .routes(routes!(mail::verify_email))
        .routes(routes!(mail::forgot_password))
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::log_in_with_code))
        .routes(routes!(tokens::refresh))
        .routes(routes!(auth::log_out))
        .routes(routes!(auth::get_session))
        .routes(routes!(passwords::change_password))
        .routes(routes!(passwords::reset_password))
        .routes(routes!(passwords::step_up))
        .routes(routes!(sessions::list_sessions, sessions::revoke_sessions))
        .routes(routes!(sessions::revoke_session))
        .routes(routes!(signing::get_jwks))
        .routes(routes!(signing::rotate_signing_key))
        .routes(routes!(users::get_me, users::update_me, users::delete_me))
        .routes(routes!(users::change_email))
        .routes(routes!(factors::create_factor, factors::list_factors))
        .routes(routes!(factors::confirm_factor))
        .routes(routes!(factors::remove_factor))
        .routes(routes!(factors::create_recovery_codes))
        .routes(routes!(users::list_users))
        .routes(routes!(users::get_user, users::update_user, users::remove_user))
        .routes(routes!(users::create_reset_link))
        .routes(routes!(factors::reset_factors))
        .routes(routes!(invitations::create_invitation, invitations::list_invitations))
        .routes(routes!(invitations::revoke_invitation))
        .routes(routes!(roles::create_role, roles::list_roles))
        .routes(routes!(roles::list_permissions))
        .routes(routes!(roles::get_role, roles::update_role, roles::delete_role))
        .routes(routes!(tenants::create_tenant, tenants::list_tenants))
        .routes(routes!(tenants::get_tenant, tenants::update_tenant, tenants::delete_tenant))
        .routes(routes!(tenants::switch_tenant))
        .routes(routes!(secrets::list_secrets))
        .routes(routes!(secrets::get_secret, secrets::put_secret, secrets::delete_secret))
        .routes(routes!(vault::get_vault))
        .routes(routes!(vault::rotate_vault_key))
        .routes(routes!(batch::send_batch))
        .routes(routes!(probes::get_health))
        .routes(routes!(probes::get_readiness))
        .routes(routes!(document::get_openapi))
        .routes(routes!(errors::get_error_page))
        .split_for_parts()
}

/// Whether there is an operation of this name.
pub(crate) fn has_operation(id: &str) -> bool {
    let paths = api().1.paths.paths;
    let mut operations = paths.values().flat_map(documented);
    operations.any(|(_, operation)| operation.operation_id.as_deref() == Some(id))
}

/// Every permission that some operation asks for, by name.
pub(crate) fn permissions(document: &OpenApi) -> Vec<Permission> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for operation in document.paths.paths.values().flat_map(documented).map(|(_, operation)| operation) {
        let extensions = operation.extensions.as_ref();
        let asked = |name| extensions.and_then(|extensions| extensions.get(name)).and_then(|value| value.as_str());
        for permission in ["x-permission", "x-permission-too"].into_iter().filter_map(asked) {
            let operations = found.entry(permission.to_owned()).or_default();
            operations.extend(operation.operation_id.clone());
        }
    }
    found.into_iter().map(|(permission, operations)| Permission::new(permission, operations)).collect()
}

fn base() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Manifold")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("One address for every model and API of a team."))
        .license(Some(license))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key, `mfk_…`. `x-api-key` and `x-goog-api-key` carry it as well."))
        .build();
    let mut components = Components::new();
    components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token of `POST /v1/auth/login?mode=token` (RFC 9068), good for ten minutes."))
        .build();
    components.add_security_scheme(ACCESS_TOKEN, SecurityScheme::Http(token));
    let cookie = "The cookie that logging in sets: `__Host-manifold`, and `manifold_dev` without TLS on the same machine. \
                  Whatever changes something also brings the session's token as `manifold-csrf`.";
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description("__Host-manifold", cookie));
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(cookie));
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.schemas.insert(Fault::name().into_owned(), Fault::schema());
    // Answers that are described apart from their schema do not bring it along.
    let mut entrance = vec![(auth::Entrance::name().into_owned(), auth::Entrance::schema())];
    auth::Entrance::schemas(&mut entrance);
    components.schemas.extend(entrance);
    let tags = TAGS.iter().map(|(name, text)| TagBuilder::new().name(*name).description(Some(*text)).build());
    OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(tags)).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use utoipa::openapi::path::Operation;

    use super::published::is_public;
    use super::*;

    fn operations() -> Vec<(String, Operation)> {
        let document = publish(api().1, Some("https://api.example"));
        let paths = document.paths.paths.into_iter();
        paths
            .flat_map(|(path, item)| {
                let all: Vec<_> = documented(&item).into_iter().map(|(_, operation)| operation.clone()).collect();
                all.into_iter().map(move |operation| (path.clone(), operation))
            })
            .collect()
    }

    #[test]
    fn every_operation_is_documented_for_a_stranger() {
        let mut ids = BTreeSet::new();
        for (path, operation) in operations() {
            let extensions = operation.extensions.clone().unwrap_or_default();
            let id = operation.operation_id.clone().unwrap();

            assert!(ids.insert(id.clone()), "{id} twice");
            assert!(operation.summary.is_some_and(|summary| !summary.is_empty()), "{path}");
            assert!(operation.description.is_some_and(|description| description.len() >= 20), "{path}");
            assert!(
                operation.tags.is_some_and(|tags| tags.iter().all(|tag| TAGS.iter().any(|(name, _)| name == tag))),
                "{path}"
            );
            let access = ["x-permission", "x-public", "x-user", "x-caller"]
                .into_iter()
                .filter(|name| extensions.contains_key(*name));
            assert_eq!(access.count(), 1, "{path}");
            assert!(operation.security.is_some(), "{path}");
        }
        assert!(ids.len() >= 55);
    }

    #[test]
    fn operations_that_need_a_key_tell_how_they_refuse() {
        for (path, operation) in operations() {
            let statuses: Vec<_> = operation.responses.responses.keys().cloned().collect();
            let refuses = statuses.iter().any(|status| status == "401" || status == "4XX");

            assert!(refuses || is_public(&operation), "{path} {statuses:?}");
        }
    }

    #[test]
    fn operations_that_take_something_tell_how_they_refuse() {
        for (path, operation) in operations() {
            let takes = operation.request_body.is_some() || operation.parameters.is_some_and(|all| !all.is_empty());
            let statuses: Vec<_> = operation.responses.responses.keys().cloned().collect();
            let refuses = statuses.iter().any(|status| status == "400" || status == "4XX");

            assert!(refuses || !takes, "{path} {statuses:?}");
        }
    }

    #[test]
    fn every_success_shows_an_example() {
        for (path, operation) in operations() {
            let says = |status: &str| status.starts_with('2') && status != "204";
            let successes = operation.responses.responses.iter().filter(|(status, _)| says(status));
            for (status, response) in successes {
                let printed = serde_json::to_string(response).unwrap();

                assert!(printed.contains("\"example"), "{path} {status} {printed}");
            }
        }
    }

    #[test]
    fn every_permission_has_the_form_of_one_and_leads_to_operations() {
        let permissions = serde_json::to_value(permissions(&api().1)).unwrap();
        let names: Vec<_> =
            permissions.as_array().unwrap().iter().map(|one| one["permission"].as_str().unwrap()).collect();

        assert!(names.contains(&"tenants.tenant.suspend") && names.contains(&"keys.key.read"), "{names:?}");
        assert!(names.iter().all(|name| name.split('.').count() == 3), "{names:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(publish(api().1, None)).unwrap();
        let printed = document.to_string();
        let references: BTreeSet<_> =
            printed.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();

        let lost: Vec<_> = references.iter().filter(|pointer| document.pointer(pointer).is_none()).collect();
        assert!(references.len() > 50 && lost.is_empty(), "{lost:?}");
    }

    #[test]
    fn whoever_may_come_by_key_may_come_by_session_and_token_too() {
        for (path, operation) in operations() {
            let printed = serde_json::to_string(&operation.security).unwrap();
            let comes_by = ["session", "access_token"].map(|scheme| printed.contains(scheme));

            assert_eq!(comes_by, [!is_public(&operation); 2], "{path} {printed}");
        }
    }

    #[test]
    fn every_part_of_a_path_and_every_key_of_a_repetition_says_what_it_looks_like() {
        for (path, operation) in operations() {
            let parameters = serde_json::to_value(&operation.parameters).unwrap();
            let has_form = |parameter: &&Value| parameter["in"] == "path" || parameter["name"] == "Idempotency-Key";
            for part in parameters.as_array().into_iter().flatten().filter(has_form) {
                assert!(part["schema"]["pattern"].as_str().is_some_and(|form| form.starts_with('^')), "{path} {part}");
            }
        }
    }

    #[test]
    fn the_document_names_its_version_and_address() {
        let document = serde_json::to_value(publish(api().1, Some("https://api.example"))).unwrap();

        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["servers"][0]["url"], "https://api.example");
        assert!(document["paths"]["/v1/models/{id}"]["get"].is_object());
    }
}
