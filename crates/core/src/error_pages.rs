//! What each reason of an error means and how to mend it: one page per reason, in `errors/`, carried in the program.

/// Makes the table of pages: each reason has its file.
macro_rules! pages {
    ($($reason:literal)+) => {
        /// The page of a reason such as `MODEL_NOT_FOUND`, in Markdown.
        pub fn error_page(reason: &str) -> Option<&'static str> {
            match reason {
                $($reason => Some(include_str!(concat!("../errors/", $reason, ".md"))),)+
                _ => None,
            }
        }
    };
}

pages! {
    "ABNORMAL_USAGE_DETECTED"
    "ADDRESS_INVALID"
    "ADDRESS_IN_USE"
    "ADMIN_KEY_INVALID"
    "AMBIGUOUS_CREDENTIALS"
    "ANSWER_TOO_LARGE"
    "BAD_HOST"
    "BAD_TARGET"
    "BAD_TOOL_CALL"
    "BATCH_INVALID"
    "BLOCK_NOT_FOUND"
    "BODY_BROKEN"
    "BODY_INVALID"
    "BODY_NOT_ALLOWED"
    "BODY_NOT_JSON"
    "BODY_TIMEOUT"
    "BODY_TOO_DEEP"
    "BUS_CONSUMER_DIFFERS"
    "BUS_STREAM_DIFFERS"
    "BUS_STREAM_TOO_LARGE"
    "BUS_UNAVAILABLE"
    "BUS_VERSION"
    "CANCELLED"
    "CODE_INVALID"
    "CODE_REQUIRED"
    "CONFIG_INVALID"
    "CONFLICT"
    "CONTENT_FILTER"
    "CONTEXT_LENGTH_EXCEEDED"
    "CREDITS_INVALID"
    "CSRF"
    "CURSOR_INVALID"
    "DATABASE_NOT_EMPTY"
    "DATA_DIR_INVALID"
    "DATA_MOVED"
    "DEADLINE_EXCEEDED"
    "EMAIL_INVALID"
    "ENVIRONMENT_INVALID"
    "ESCALATION"
    "EVENT_SUBJECT_INVALID"
    "EVENT_TOO_LARGE"
    "EXPECTATION_FAILED"
    "EXPIRY_INVALID"
    "EXPORT_INVALID"
    "EXPRESSION_INVALID"
    "EXTERNAL_ID_INVALID"
    "FACTOR_NOT_FOUND"
    "FAILED_PRECONDITION"
    "FILTER_INVALID"
    "GRACE_INVALID"
    "HOP_LIMIT"
    "HOST_TENANT"
    "HTTPS_REQUIRED"
    "IDEMPOTENCY_IN_FLIGHT"
    "IDEMPOTENCY_KEY_INVALID"
    "IDEMPOTENCY_KEY_REUSED"
    "INCIDENT_NOT_FOUND"
    "INSUFFICIENT_SCOPE"
    "INTERNAL"
    "INVALID_ARGUMENT"
    "INVALID_AUDIO"
    "INVALID_CREDENTIALS"
    "INVALID_CURSOR"
    "INVALID_FILE"
    "INVALID_GRANT"
    "INVALID_IMAGE"
    "INVALID_IMAGE_URL"
    "INVALID_KEY"
    "INVALID_SESSION"
    "INVALID_TOKEN"
    "INVITATION_NOT_FOUND"
    "JOB_KEY_INVALID"
    "JOB_LEASE_LOST"
    "JOB_NOT_FOUND"
    "JOB_TOO_LARGE"
    "KEY_DISABLED"
    "KEY_EXPIRED"
    "KEY_NOT_FOUND"
    "KEY_RESTRICTED"
    "KEY_REVOKED"
    "LAST_OWNER"
    "LIMIT_INVALID"
    "LISTEN_FAILED"
    "MAIL_MISSING"
    "MAIL_UNAVAILABLE"
    "MASTER_KEY_INVALID"
    "MASTER_KEY_MISSING"
    "MASTER_KEY_WRONG"
    "MASTER_ROTATION_OVERTAKEN"
    "METADATA_TOO_LARGE"
    "METHOD_NOT_ALLOWED"
    "METHOD_UNKNOWN"
    "MFA_REQUIRED"
    "MODEL_NOT_FOUND"
    "NAME_INVALID"
    "NEW_SECRET_UNUSED"
    "NOT_FOUND"
    "NOT_IN_A_BATCH"
    "NO_PROVIDER_CONFIGURED"
    "NO_PROVIDER_LEFT"
    "OWNER_EXISTS"
    "OWNER_IN_USE"
    "OWNER_NOT_FOUND"
    "OWNER_REQUIRED"
    "OWNER_UNKNOWN"
    "PARAMETER_REPEATED"
    "PARAMETER_UNKNOWN"
    "PASSWORD_INVALID"
    "PASSWORD_WEAK"
    "PERMISSION_DENIED"
    "PERMISSION_INVALID"
    "PRECONDITION_FAILED"
    "PROFILE_INVALID"
    "QUERY_INVALID"
    "RATE_LIMIT_EXCEEDED"
    "REGISTRATION_CLOSED"
    "REQUEST_TOO_LARGE"
    "RESOURCE_EXHAUSTED"
    "RESTRICTION_INVALID"
    "ROLE_BUILT_IN"
    "ROLE_EXISTS"
    "ROLE_IN_USE"
    "ROLE_NOT_FOUND"
    "ROLE_UNKNOWN"
    "ROTATE_EVERY_INVALID"
    "ROTATION_IN_PROGRESS"
    "ROTATION_NOT_FOUND"
    "ROUTE_NOT_FOUND"
    "SECRET_FILE"
    "SECRET_INVALID"
    "SECRET_NOT_FOUND"
    "SERVER_REFUSED"
    "SERVER_UNREACHABLE"
    "SERVICE_REQUIRED"
    "SESSION_NOT_FOUND"
    "SESSION_OF_TOKENS"
    "SESSION_REQUIRED"
    "SETTINGS_INVALID"
    "SETUP_REQUIRED"
    "SETUP_TOKEN_INVALID"
    "SIGNING_KEY_TOO_NEW"
    "SLUG_INVALID"
    "SLUG_TAKEN"
    "STEP_UP_REQUIRED"
    "STORE_FULL"
    "STORE_UNAVAILABLE"
    "STORE_URL_INVALID"
    "STREAM_INTERRUPTED"
    "SUBJECT_NOT_FOUND"
    "TAGS_INVALID"
    "TARGET_TOO_LONG"
    "TEMPORARY_REDUCED_CAPACITY"
    "TENANT_MISMATCH"
    "TENANT_NOT_FOUND"
    "TENANT_SUSPENDED"
    "TOKEN_INVALID"
    "TOO_MANY_ATTEMPTS"
    "TOO_MANY_PARAMETERS"
    "TOO_MANY_ROLES"
    "UNAUTHENTICATED"
    "UNAVAILABLE"
    "UNIMPLEMENTED"
    "UNSUPPORTED"
    "UNSUPPORTED_CONTENT_ENCODING"
    "UNSUPPORTED_MEDIA_TYPE"
    "UPSTREAM_ERROR"
    "UPSTREAM_INVALID"
    "UPSTREAM_TIMEOUT"
    "USAGE_EXCEEDED"
    "USER_NOT_FOUND"
    "VAULT_REQUEST_INVALID"
    "WINDOW_INVALID"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_is_carried_and_has_its_form() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("errors")).unwrap() {
            let path = entry.unwrap().path();
            let reason = path.file_stem().unwrap().to_str().unwrap();
            let page = error_page(reason).unwrap_or_else(|| panic!("{reason} is not in the list"));
            let paragraphs: Vec<_> = page.trim_end().split("\n\n").collect();

            assert_eq!(page, fs::read_to_string(&path).unwrap());
            assert_eq!((paragraphs.len(), paragraphs[0]), (4, format!("# {reason}").as_str()));
            assert!(paragraphs[3].replace('\n', " ").contains("HTTP status"), "{reason}");
        }
    }

    #[test]
    fn an_unknown_reason_has_no_page() {
        assert_eq!(error_page("NOBODY_SAID_THIS"), None);
        assert_eq!(error_page("model_not_found"), None);
    }
}
