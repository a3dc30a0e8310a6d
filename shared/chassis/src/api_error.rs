//! Every refusal is a problem document (RFC 9457) that names the field and the reason.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use messaging::Undecided;
use serde::Serialize;
use utoipa::ToSchema;

/// One field that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it is in the request, `lines[0].quantity`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FieldError {
    /// A refused field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) slug: &'static str,
    pub(crate) detail: String,
    pub(crate) errors: Vec<FieldError>,
    pub(crate) retry_after: Option<u32>,
}

impl ApiError {
    /// A refusal of some kind; the slug is the last part of the problem's `type`.
    pub fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            slug,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// 400: the request cannot be read at all.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-request", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 409: not in this state.
    pub fn conflict(slug: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, slug, detail)
    }

    /// 422: the request was understood, but its content is refused, field by field.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.field, only.reason),
            many => format!("{} fields were refused", many.len()),
        };
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", detail)
        }
    }

    /// 503: something that is needed is away, try again in so many seconds.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::later("unavailable", detail)
    }

    /// 503: there is more to do than can be done, try again in so many seconds.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::later("overloaded", detail)
    }

    /// The seconds differ, so that those who were turned away together do not come back together.
    fn later(slug: &'static str, detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(fastrand::u32(1..=5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, detail)
        }
    }

    /// 500: our fault; the reason is logged here and not told.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal-error",
            "something went wrong on our side",
        )
    }

    /// Tells the client to wait before it tries again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Names the fields as well.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The status that will be answered.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// A database that is away is a 503, never a 500; details stay in the log.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match messaging::Trouble::from(error) {
            messaging::Trouble::Broken(reason) => Self::internal(reason),
            trouble => {
                tracing::warn!(error = %trouble, "a request found the database unavailable");
                Self::unavailable("the database cannot be reached, try again")
            }
        }
    }
}

impl From<Undecided> for ApiError {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Overloaded => Self::overloaded("too many requests wait, try again"),
            Undecided::Unavailable(_) => Self::unavailable("the database cannot be reached, try again"),
            Undecided::Broken(reason) => Self::internal(reason),
        }
    }
}

/// Leaves the body to [`surface`](crate::surface), which knows the path and the trace.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}
