//! `/docs/errors/{code}`: what an error means and how to mend it, as a page for people.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use manifold_core::{Error, error_page};

use crate::call::Id;
use crate::problem::Problem;
use crate::refusal::Answer;

/// Explain an error
///
/// What happened, why it happens and how to mend it, for each `code` that a refused request can carry.
#[utoipa::path(
    get,
    path = "/docs/errors/{code}",
    operation_id = "getErrorPage",
    tag = "Documents",
    params(("code" = String, Path, description = "`code` of a problem", example = "model_not_found", pattern = "^[a-z0-9_]+$")),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/markdown",
            example = json!("# MODEL_NOT_FOUND\n\nThere is no model of this name here.")),
        (status = 404, description = "No error has this code", body = Problem, content_type = "application/problem+json")
    ),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn get_error_page(Id(code): Id) -> Answer<Response> {
    let page = error_page(&code.to_ascii_uppercase())
        .ok_or_else(|| Error::not_found("ROUTE_NOT_FOUND", "no error has this code"))?;
    let mut response = Response::new(Body::from(page));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/markdown; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_code_leads_to_its_page_and_another_word_to_none() {
        let page = get_error_page(Id("model_not_found".to_owned())).await.unwrap();
        let none = get_error_page(Id("nobody_said_this".to_owned())).await.unwrap_err();

        assert_eq!(page.headers()[CONTENT_TYPE], "text/markdown; charset=utf-8");
        assert_eq!((none.status.as_u16(), none.error.reason()), (404, "ROUTE_NOT_FOUND"));
    }
}
