//! Pages of lists: `limit` and `cursor` in the query, the way to the next page in the answer.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::StatusCode;
use http::header::LINK;
use http::request::Parts;
use manifold_core::{Error, Page, PageRequest, TenantId};
use manifold_identity::Identity;
use serde::Serialize;
use uuid::Uuid;

use crate::call::Call;
use crate::edge::House;
use crate::headers::value;
use crate::refusal::{Answer, Refusal};
use crate::rest::respond;

/// A page of a list that somebody asks for. Stands before [`Call`] among the arguments of a handler.
pub(crate) struct List {
    identity: Identity,
    tenant: TenantId,
    path: String,
    asked: Asked,
}

/// The query of a list, not decoded: our parameters are numbers and cursors.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl FromRequestParts<Arc<House>> for List {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, house: &Arc<House>) -> Result<Self, Refusal> {
        let call = parts.extensions.get::<Call>().ok_or_else(|| Error::internal("a list without a caller"))?;
        let asked = read(parts.uri.query().unwrap_or_default())?;
        let tenant = call.context.principal.tenant;
        let path = parts.uri.path().to_owned();
        Ok(Self { identity: house.identity.clone(), tenant, path, asked })
    }
}

impl List {
    /// What page it is.
    pub(crate) fn request(&self) -> Answer<PageRequest> {
        let cursor = self.asked.cursor.as_deref();
        let after = cursor.map(|text| self.identity.read_cursor(self.tenant, &self.path, text)).transpose()?;
        Ok(PageRequest::new(self.asked.limit, after)?)
    }

    /// The answer, which `body` makes of rows, cursor of the next page, and whether there is one; with a link to that page
    /// (RFC 8288).
    pub(crate) fn respond<T, B: Serialize>(
        &self,
        page: Page<T>,
        body: impl FnOnce(Vec<T>, Option<String>, bool) -> B,
    ) -> Answer<Response> {
        let next = page.next.map(|after: Uuid| self.identity.print_cursor(self.tenant, &self.path, after));
        let link = next.as_ref().map(|cursor| {
            let limit = self.asked.limit.map_or(String::new(), |limit| format!("limit={limit}&"));
            format!("<{}?{limit}cursor={cursor}>; rel=\"next\"", self.path)
        });
        let has_more = next.is_some();
        let mut response = respond(StatusCode::OK, &body(page.data, next, has_more))?;
        if let Some(link) = link {
            response.headers_mut().insert(LINK, value(link));
        }
        Ok(response)
    }
}

/// Reads a query; anything else, and anything twice, is refused.
fn read(query: &str) -> Answer<Asked> {
    let mut asked = Asked::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let twice = match name {
            "limit" => {
                let limit = text.parse().map_err(|_| Refusal::bad("LIMIT_INVALID", "limit is a number").at("limit"))?;
                asked.limit.replace(limit).is_some()
            }
            "cursor" => asked.cursor.replace(text.to_owned()).is_some(),
            _ => return Err(Refusal::bad("PARAMETER_UNKNOWN", "the parameters are limit and cursor").at(name)),
        };
        if twice {
            return Err(Refusal::bad("PARAMETER_REPEATED", "a parameter was given twice").at(name));
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_68_numbers_are_numbers_and_nothing_comes_twice() {
        for (query, reason) in [
            ("", None),
            ("limit=200&cursor=a.b", None),
            ("&limit=1&&", None),
            ("limit=x", Some("LIMIT_INVALID")),
            ("limit=-1", Some("LIMIT_INVALID")),
            ("limit=99999999999", Some("LIMIT_INVALID")),
            ("limit=1&limit=2", Some("PARAMETER_REPEATED")),
            ("cursor=a&cursor=b", Some("PARAMETER_REPEATED")),
            ("sort=password_hash", Some("PARAMETER_UNKNOWN")),
            ("limit=1&state=%27", Some("PARAMETER_UNKNOWN")),
        ] {
            let refused = read(query).err().map(|refusal| refusal.error.reason().to_owned());

            assert_eq!(refused.as_deref(), reason, "{query}");
        }
    }
}
