//! What clients read of the contract beside what the handlers say themselves: problems, links, credentials, forms.

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, Object, ObjectBuilder, OneOf, OneOfBuilder, Schema, Type,
};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Server};

use crate::problem::Problem;

/// The scheme of access tokens.
pub(crate) const ACCESS_TOKEN: &str = "access_token";
/// The scheme of sessions.
pub(crate) const SESSION: &str = "session";

/// Statuses that any native operation may answer.
const PROBLEMS: [(&str, &str); 12] = [
    ("400", "The request cannot be parsed"),
    ("401", "No key, or one that does not hold"),
    ("403", "The key may not do this"),
    ("404", "There is no such thing"),
    ("408", "The body came too slowly"),
    ("409", "It contradicts what is there"),
    ("412", "It is not what If-Match names"),
    ("413", "The body is too large"),
    ("415", "The body is not JSON"),
    ("422", "The request is not acceptable"),
    ("429", "Too many requests; Retry-After says when to return"),
    ("503", "Not possible now; Retry-After says when to return"),
];

/// What can be done next with the thing that an operation made: operation, name of the link, next operation.
const LINKS: [(&str, &str, &str); 20] = [
    ("createFactor", "confirm", "confirmFactor"),
    ("createFactor", "remove", "removeFactor"),
    ("createKey", "get", "getKey"),
    ("createKey", "limit", "setLimits"),
    ("createKey", "revoke", "revokeKey"),
    ("createKey", "rotate", "rotateKey"),
    ("createKey", "update", "updateKey"),
    ("createKey", "usage", "getKeyUsage"),
    ("createOwner", "get", "getOwner"),
    ("createOwner", "limit", "setLimits"),
    ("createOwner", "update", "updateOwner"),
    ("createOwner", "usage", "getOwnerUsage"),
    ("createOwner", "delete", "deleteOwner"),
    ("createInvitation", "revoke", "revokeInvitation"),
    ("createRole", "get", "getRole"),
    ("createRole", "update", "updateRole"),
    ("createRole", "delete", "deleteRole"),
    ("createTenant", "get", "getTenant"),
    ("createTenant", "update", "updateTenant"),
    ("createTenant", "delete", "deleteTenant"),
];

/// A body, and the texts that it has together: either the first ones and none of the second, or the other way round.
const EITHER: (&str, [&[&str]; 2]) = ("RegisterRequest", [&["token", "password"], &["email"]]);

/// The header by which a client says that two requests are one.
const REPETITION: &str = "Idempotency-Key";
/// Printable ASCII, with or without the quotes of structured fields (RFC 9651).
const FORM_OF_REPETITION: &str = r#"^([!#-~]([ -~]*[!-~])?|"([ !#-\[\]-~]|\\["\\])+")$"#;

/// The document as clients read it: with the problems of native operations and paths as templates.
pub(crate) fn publish(mut document: OpenApi, public_url: Option<&str>) -> OpenApi {
    for (name, schema) in document.components.iter_mut().flat_map(|components| components.schemas.iter_mut()) {
        if let RefOr::T(Schema::OneOf(kinds)) = schema {
            kinds.items.iter_mut().for_each(close);
        }
        if name == EITHER.0 {
            let all = AllOfBuilder::new().item(schema.clone()).item(Schema::from(either(EITHER.1)));
            *schema = RefOr::T(all.into());
        }
    }
    document.servers = public_url.map(|url| vec![Server::new(url)]);
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        if let Some(operation) = item
            .post
            .as_mut()
            .filter(|operation| !is_public(operation) && !speaks_openai(operation) && !is_never_repeated(operation))
        {
            add_repetition(operation);
        }
        for operation in
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
        {
            if !is_probe(operation) && !speaks_openai(operation) {
                add_problems(operation);
            }
            add_links(operation);
            add_credentials(operation);
            add_forms(operation);
        }
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    document
}

/// Nobody has to say who calls.
pub(crate) fn is_public(operation: &Operation) -> bool {
    operation.extensions.as_ref().is_some_and(|extensions| extensions.contains_key("x-public"))
}

/// Knows no idempotency keys.
fn is_never_repeated(operation: &Operation) -> bool {
    let told = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-manifold-idempotency"));
    told.is_some_and(|told| told == "none")
}

/// Takes nothing and refuses nothing.
fn is_probe(operation: &Operation) -> bool {
    let takes_nothing = operation.parameters.as_ref().is_none_or(Vec::is_empty) && operation.request_body.is_none();
    is_public(operation) && takes_nothing
}

fn speaks_openai(operation: &Operation) -> bool {
    operation.responses.responses.contains_key("4XX")
}

fn add_problems(operation: &mut Operation) {
    for (status, description) in PROBLEMS {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
}

/// Wherever a caller is asked for, a person may come by a session or an access token.
fn add_credentials(operation: &mut Operation) {
    if is_public(operation) {
        return;
    }
    let known = operation.security.get_or_insert_default();
    for scheme in [SESSION, ACCESS_TOKEN] {
        let requirement = SecurityRequirement::new(scheme, [] as [&str; 0]);
        if !known.contains(&requirement) {
            known.push(requirement);
        }
    }
}

/// Parts of a path that do not say what they look like are what their example is: an id, or a name.
fn add_forms(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let form = match parameter.parameter_in {
            ParameterIn::Path => {
                let printed = serde_json::to_value(&*parameter).unwrap_or_default();
                form_of(printed["example"].as_str().unwrap_or_default())
            }
            _ if parameter.name == REPETITION => FORM_OF_REPETITION.to_owned(),
            _ => continue,
        };
        if let Some(RefOr::T(Schema::Object(text))) = &mut parameter.schema {
            text.pattern.get_or_insert(form);
        }
    }
}

/// Of `key_01h455vb4pex5vsknk084sn02q` the form of ids of keys.
fn form_of(example: &str) -> String {
    match example.split_once('_') {
        Some((prefix, rest)) if rest.len() == 26 => format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"),
        _ => "^[A-Za-z0-9][A-Za-z0-9._-]*$".to_owned(),
    }
}

fn add_links(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let Some(RefOr::T(created)) = operation.responses.responses.get_mut("201") else { return };
    for (_, name, target) in LINKS.iter().filter(|(from, ..)| *from == id) {
        let parameter = if *target == "setLimits" { "subject" } else { "id" };
        let link = Link::builder().operation_id(*target).parameter(parameter, "$response.body#/id").build();
        created.links.insert((*name).to_owned(), RefOr::T(link));
    }
}

/// What any native operation that makes something understands, if it does not say it itself.
fn add_repetition(operation: &mut Operation) {
    let known = operation.parameters.get_or_insert_default();
    let says = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == REPETITION);
    if known.iter().any(says) {
        return;
    }
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    let parameter = ParameterBuilder::new()
        .name(REPETITION)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Any text that is new for each new request, such as a UUID; who repeats it with the same request \
                           within 24 hours gets the same answer, and nothing is done again",
        ))
        .schema(Some(text))
        .example(Some("8e03978e-40d5-43e8-bc93-6894a57f9324".into()));
    known.push(RefOr::T(parameter.build()));
    let successes = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
    for (_, success) in successes {
        if let RefOr::T(success) = success {
            let text = "`true`: this is the answer to an earlier request";
            let told = HeaderBuilder::new().description(Some(text)).build();
            success.headers.entry("Idempotent-Replayed".to_owned()).or_insert(RefOr::T(told));
        }
    }
}

/// One kind of a thing has the fields that it names and no others.
fn close(kind: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(kind)) = kind
        && !kind.properties.is_empty()
    {
        kind.additional_properties.get_or_insert_with(|| Box::new(AdditionalProperties::FreeForm(false)));
    }
}

/// Has these texts and not the others, or the other way round.
fn either([these, those]: [&[&str]; 2]) -> OneOf {
    let only = |some: &[&str], others: &[&str]| {
        let absent =
            others.iter().fold(ObjectBuilder::new(), |all, name| all.property(*name, Object::with_type(Type::Null)));
        let given =
            |all: ObjectBuilder, name: &&str| all.property(*name, Object::with_type(Type::String)).required(*name);
        some.iter().fold(absent, given)
    };
    OneOfBuilder::new().item(only(these, those)).item(only(those, these)).build()
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

#[cfg(test)]
mod tests {
    use super::form_of;

    #[test]
    fn the_form_of_an_id_names_its_kind() {
        assert_eq!(form_of("inv_01h455vb4pex5vsknk084sn02q"), "^inv_[0-7][0-9a-hjkmnp-tv-z]{25}$");
        assert_eq!(form_of("groq/llama"), "^[A-Za-z0-9][A-Za-z0-9._-]*$");
    }
}
