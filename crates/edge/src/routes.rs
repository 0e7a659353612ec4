//! The table of what is served and who may call it, made at start from the same documentation that clients read.
//! An operation that says none of `x-permission`, `x-user`, `x-caller` and `x-public`, or more than one, is denied. `x-factor-setup`
//! is for people, too, whose tenant asks for a second factor that they have not set up yet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use manifold_core::{Error, Principal, Result, SubjectKind};
use sha2::{Digest, Sha256};
use utoipa::openapi::path::{Operation as Documented, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use crate::config::Checked;
use crate::dialect::Dialect;
use crate::measure::Durations;
use crate::refusal::{Answer, Refusal};

const AI_DEADLINE: Duration = Duration::from_secs(600);
const AI_MAX_BODY: u64 = 32 << 20;

/// Who may call an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, without a key.
    Public,
    /// Who is logged in, for what is the person's own.
    User,
    /// Everybody who is known: it carries other requests, and each of them is allowed, counted and paid by itself.
    Caller,
    /// Who holds the permission.
    Permission(String),
    /// Nobody: the documentation forgot to say.
    Nobody,
}

/// One method of one path.
pub(crate) struct Operation {
    /// Its name in the contract.
    pub(crate) id: String,
    pub(crate) route: String,
    /// Keeps what is counted of it apart from what is counted of others.
    pub(crate) salt: u128,
    pub(crate) method: Method,
    pub(crate) access: Access,
    /// Whether it is there to set a second factor up.
    pub(crate) is_factor_setup: bool,
    pub(crate) max_body: u64,
    pub(crate) deadline: Duration,
    /// It keeps its answers for repetitions itself, or is never repeated.
    pub(crate) keeps_answers: bool,
    /// Whether other requests may carry it: it tells nobody who he is, and answers with whole JSON.
    pub(crate) can_be_carried: bool,
    pub(crate) durations: Durations,
}

/// `POST /v1/keys`.
impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.route)
    }
}

impl Operation {
    /// Whether it is called without a key.
    pub(crate) fn is_public(&self) -> bool {
        self.access == Access::Public
    }

    /// Whether it is called without a key and takes nothing: it must answer in a full house, too.
    pub(crate) fn is_probe(&self) -> bool {
        self.is_public() && self.method == Method::GET
    }

    /// Whether it is about limits: who has too low ones still gets in here.
    pub(crate) fn is_about_limits(&self) -> bool {
        matches!(&self.access, Access::Permission(permission) if permission.starts_with("limits."))
    }

    /// Whether it carries other requests.
    pub(crate) fn carries(&self) -> bool {
        self.access == Access::Caller
    }

    /// The API that it belongs to: the first word of its permission.
    pub(crate) fn api(&self) -> Option<&str> {
        match &self.access {
            Access::Permission(permission) => permission.split('.').next(),
            Access::Public | Access::User | Access::Caller | Access::Nobody => None,
        }
    }

    /// Denies callers without the permission.
    pub(crate) fn authorise(&self, caller: &Principal) -> Answer<()> {
        if caller.lacks_factor && !self.is_factor_setup {
            let message = "this tenant asks for a second factor: set one up with POST /v1/users/me/factors, or prove it with \
                           POST /v1/auth/step-up";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "MFA_REQUIRED", message));
        }
        let lacking = match &self.access {
            Access::Public | Access::Caller => return Ok(()),
            Access::User if caller.kind == SubjectKind::User => return Ok(()),
            Access::User => {
                let message = "only a person who is logged in can do this";
                return Err(Refusal::new(StatusCode::FORBIDDEN, "SESSION_REQUIRED", message));
            }
            // For some things at least: for which, the use case asks.
            Access::Permission(permission) if caller.allows_some(permission) => return Ok(()),
            Access::Permission(permission) => format!("the caller lacks the permission {permission}"),
            Access::Nobody => "nobody may call this".to_owned(),
        };
        Err(Refusal::new(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", lacking))
    }
}

/// All operations.
pub(crate) struct Routes {
    by_path: matchit::Router<Entry>,
}

struct Entry {
    operations: Vec<Arc<Operation>>,
    allow: HeaderValue,
}

impl Routes {
    /// Reads the table from the documentation.
    pub(crate) fn new(document: &OpenApi, config: &Checked) -> Result<Self> {
        let mut by_path = matchit::Router::new();
        for (path, item) in &document.paths.paths {
            let operations: Vec<_> = documented(item)
                .into_iter()
                .map(|(method, operation)| Arc::new(read(path, method, operation, config)))
                .collect();
            let allow = allow(&operations);
            by_path
                .insert(path.clone(), Entry { operations, allow })
                .map_err(|error| Error::internal(format!("two routes at {path}: {error}")))?;
        }
        Ok(Self { by_path })
    }

    /// The operation of a request, or 404, or 405 with what is allowed.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Answer<&Arc<Operation>> {
        let Ok(found) = self.by_path.at(path) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "there is nothing at this address"));
        };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        found.value.operations.iter().find(|operation| operation.method == *wanted).ok_or_else(|| {
            let refusal =
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this address takes another method");
            refusal.with(ALLOW, found.value.allow.clone())
        })
    }
}

fn read(path: &str, method: Method, documented: &Documented, config: &Checked) -> Operation {
    let extensions: BTreeMap<&str, &serde_json::Value> =
        documented.extensions.iter().flat_map(|all| all.iter()).map(|(name, value)| (name.as_str(), value)).collect();
    let says = |name| extensions.get(name).copied() == Some(&serde_json::Value::Bool(true));
    let permission = extensions.get("x-permission").and_then(|value| value.as_str());
    let access = match (says("x-public"), says("x-user"), says("x-caller"), permission) {
        (true, false, false, None) => Access::Public,
        (false, true, false, None) => Access::User,
        (false, false, true, None) => Access::Caller,
        (false, false, false, Some(permission)) => Access::Permission(permission.to_owned()),
        _ => Access::Nobody,
    };
    let is_factor_setup = says("x-factor-setup");
    let (max_body, deadline) = match Dialect::of(path) {
        Dialect::Native if access != Access::Caller => (config.max_body, config.deadline),
        // What carries other requests may carry those of an AI dialect.
        Dialect::Native | Dialect::OpenAi => (AI_MAX_BODY, AI_DEADLINE),
    };
    let is_entrance = path.starts_with("/v1/auth/") || path.starts_with("/oauth2/");
    let can_be_carried = access != Access::Caller && !is_entrance && answers_with_json(documented);
    let id = documented.operation_id.clone().unwrap_or_default();
    let salt = salt(&id);
    let keeps_answers = extensions.contains_key("x-manifold-idempotency");
    let durations = Durations::new(method.clone(), path);
    Operation {
        id,
        route: path.to_owned(),
        salt,
        method,
        access,
        is_factor_setup,
        max_body,
        deadline,
        keeps_answers,
        can_be_carried,
        durations,
    }
}

/// Whether it has an answer that is JSON, or nothing.
fn answers_with_json(documented: &Documented) -> bool {
    let answers = documented.responses.responses.iter().filter(|(status, _)| status.starts_with('2'));
    let mut contents = answers.map(|(_, answer)| match answer {
        RefOr::T(answer) => answer.content.is_empty() || answer.content.contains_key("application/json"),
        RefOr::Ref(_) => true,
    });
    contents.any(|json| json)
}

/// The same in every process.
fn salt(id: &str) -> u128 {
    Sha256::digest(id).iter().take(16).fold(0, |salt, byte| salt << 8 | u128::from(*byte))
}

fn allow(operations: &[Arc<Operation>]) -> HeaderValue {
    let mut methods: Vec<_> = operations.iter().map(|operation| operation.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    HeaderValue::try_from(methods.join(", ")).expect("methods are a valid header")
}

/// The operations of a path, by method.
pub(crate) fn documented(item: &PathItem) -> Vec<(Method, &Documented)> {
    let all = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_ref().map(|operation| (method, operation))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::openapi;

    #[test]
    fn what_an_address_does_not_take_is_refused_with_what_it_takes() {
        let routes = Routes::new(&openapi::api().1, &Config::default().check().unwrap()).unwrap();

        for method in ["TRACE", "QUERY", "OPTIONS", "PUT"] {
            let refusal = routes.find(&method.parse().unwrap(), "/v1/keys").err().unwrap();
            assert_eq!((refusal.status.as_u16(), &refusal.headers[0].0), (405, &ALLOW), "{method}");
            let allowed: std::collections::BTreeSet<_> = refusal.headers[0].1.to_str().unwrap().split(", ").collect();
            assert_eq!(allowed, ["GET", "HEAD", "POST"].into(), "{method}");
        }
    }

    #[test]
    fn who_lacks_a_second_factor_reaches_only_what_sets_one_up() {
        let (document, config) = (openapi::api().1, Config::default().check().unwrap());
        let all = document.paths.paths.iter().flat_map(|(path, item)| {
            documented(item).into_iter().map(|(method, operation)| read(path, method, operation, &config))
        });
        let kind = SubjectKind::User;
        let free = Principal { kind, permissions: ["*".to_owned()].into(), ..Principal::anonymous() };
        let lacking = Principal { lacks_factor: true, ..free.clone() };
        let (mut reached, mut n_free) = (Vec::new(), 0);

        for operation in all.filter(|operation| !operation.is_public()) {
            n_free += usize::from(operation.authorise(&free).is_ok());
            match operation.authorise(&lacking) {
                Ok(()) => reached.push(format!("{} {}", operation.method, operation.route)),
                Err(refusal) => {
                    assert_eq!((refusal.status, refusal.error.reason()), (StatusCode::FORBIDDEN, "MFA_REQUIRED"));
                }
            }
        }

        reached.sort();
        let expected = [
            "GET /v1/auth/session",
            "GET /v1/users/me",
            "GET /v1/users/me/factors",
            "POST /v1/auth/logout",
            "POST /v1/auth/step-up",
            "POST /v1/users/me/factors",
            "POST /v1/users/me/factors/{id}/confirm",
        ];
        assert_eq!(reached, expected);
        assert!(n_free > 20, "everybody else reaches all");
    }
}
