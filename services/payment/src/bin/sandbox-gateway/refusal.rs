//! Errors in Stripe's JSON shape.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::clerk::Closed;

/// An answer that did nothing and is not kept: the same request may fare better later.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: ErrorBody,
}

/// Stripe's `error` object.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<&'static str>,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) param: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let error = ErrorBody {
            kind,
            code: None,
            decline_code: None,
            message: message.into(),
            param: None,
        };
        Self { status, error }
    }

    /// 400: the request can never succeed as it stands.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, message)
    }

    /// A request that is wrong in a way the status says.
    pub(crate) fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// 404: the object named in the path does not exist.
    pub(crate) fn missing(kind: &str, id: &str) -> Self {
        Self::with_status(StatusCode::NOT_FOUND, format!("No such {kind}: '{id}'")).code("resource_missing")
    }

    /// 400 or 409: the idempotency key is taken by another request.
    pub(crate) fn idempotency(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "idempotency_error", message)
    }

    /// 5xx: the gateway's own failure; nothing was done.
    pub(crate) fn failure(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "api_error", message)
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.error.code = Some(code);
        self
    }

    /// Names the parameter at fault; an object named by a parameter is a bad request, not a missing page.
    pub(crate) fn param(mut self, param: &'static str) -> Self {
        self.status = StatusCode::BAD_REQUEST;
        self.error.param = Some(param);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.error.message
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "cannot write JSON");
        Self::failure(StatusCode::INTERNAL_SERVER_ERROR, "An unknown error occurred.")
    }
}

impl From<Closed> for Refusal {
    fn from(Closed: Closed) -> Self {
        Self::failure(StatusCode::INTERNAL_SERVER_ERROR, "The book is closed.")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: ErrorBody,
        }
        (self.status, Json(Body { error: self.error })).into_response()
    }
}
