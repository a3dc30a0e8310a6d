//! Extractors whose refusals are problem documents.

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{ApiError, FieldError};

/// A JSON body, in or out; what cannot be read is a 400, 413, 415 or 422 that says where and why.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(is_json) {
            let detail = "the body must be JSON, with Content-Type: application/json";
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                detail,
            ));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| ApiError::malformed("the body could not be read"))?;
        read(&body).map(Self)
    }
}

/// Reads JSON of the expected shape; serde_json itself refuses more than 128 levels.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = std::str::from_utf8(body)
        .map_err(|error| ApiError::malformed(format!("the body is not valid JSON: {error}")))?;
    let mut source = serde_json::Deserializer::from_str(body);
    let read = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().to_string();
        refused(error.inner(), &path, body)
    })?;
    source.end().map_err(|error| refused(&error, ".", body))?;
    // No table can hold this character.
    if let Some(field) = with_nul(body) {
        return Err(ApiError::invalid(vec![FieldError::new(
            field,
            "must not contain the character NUL",
        )]));
    }
    Ok(read)
}

/// The field whose text contains NUL, if any.
fn with_nul(body: &str) -> Option<String> {
    // Nearly every body ends here: NUL can only be written as an escape.
    body.find("\\u0000")?;
    nul_in(&serde_json::from_str(body).ok()?, String::new())
}

fn nul_in(value: &Value, path: String) -> Option<String> {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Array(items) => (0..)
            .zip(items)
            .find_map(|(index, item)| nul_in(item, format!("{path}[{index}]"))),
        Value::Object(fields) => fields.iter().find_map(|(name, item)| nul_in(item, below(name))),
        _ => None,
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Text that is not JSON is a 400; JSON of the wrong shape a 422 that names the field.
fn refused(error: &serde_json::Error, path: &str, body: &str) -> ApiError {
    let reason = error.to_string();
    let above = Some(path).filter(|path| *path != ".");
    if !error.is_data() {
        // Of a list where an object was expected, serde_json says so when the list is too long.
        if serde_json::from_str::<IgnoredAny>(body).is_ok() {
            return ApiError::invalid(vec![FieldError::new(above.unwrap_or("body"), "must be an object")]);
        }
        return ApiError::malformed(format!("the body is not valid JSON: {reason}"));
    }
    // A field that is missing, or there twice, is known by its parent's path and its own name.
    let begins = ["missing field `", "duplicate field `"];
    let missing = begins
        .iter()
        .find_map(|words| reason.strip_prefix(words)?.split('`').next());
    let field = match (above, missing) {
        (Some(path), Some(name)) => format!("{path}.{name}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => reason.split('`').nth(1).unwrap_or("body").to_owned(),
    };
    ApiError::invalid(vec![FieldError { field, reason }])
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A part of the path; one that cannot be what it should be names nothing, hence 404.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|rejection: PathRejection| ApiError::not_found(rejection.body_text()))
    }
}

/// The query string.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection: QueryRejection| {
            let text = rejection.body_text();
            let reason = text
                .rsplit_once("query string: ")
                .map_or(text.as_str(), |(_, reason)| reason);
            ApiError::invalid(vec![FieldError::new(parameter(reason), reason)])
        })
    }
}

/// The parameter that a reason is about: `limit: invalid digit` or "missing field `by`".
fn parameter(reason: &str) -> &str {
    let quoted = reason.split('`').nth(1);
    let before = reason
        .split_once(": ")
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '));
    before.or(quoted).unwrap_or("query")
}

/// The `Idempotency-Key` header: 1 to 255 visible ASCII characters, bare or as a quoted string.
///
/// Source: draft-ietf-httpapi-idempotency-key-header-07, which wants it quoted; most clients send it bare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

impl IdempotencyKey {
    fn parse(value: &str) -> Option<Self> {
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let key = quoted.unwrap_or(value);
        let legal = (1..=255).contains(&key.len()) && key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        legal.then(|| Self(key.to_owned()))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ApiError> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let refused = || {
            let reason = "must be one key of 1 to 255 visible ASCII characters";
            ApiError::invalid(vec![FieldError::new("Idempotency-Key", reason)])
        };
        if values.next().is_some() {
            return Err(refused());
        }
        value.to_str().ok().and_then(Self::parse).map(Some).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_bare_and_quoted() {
        assert_eq!(IdempotencyKey::parse("abc"), IdempotencyKey::parse("\"abc\""));
        assert_eq!(IdempotencyKey::parse(""), None);
        assert_eq!(IdempotencyKey::parse("\"\""), None);
        assert_eq!(IdempotencyKey::parse(&"x".repeat(256)), None);
        assert!(IdempotencyKey::parse(&"x".repeat(255)).is_some());
    }

    #[test]
    fn json_is_json_with_or_without_parameters() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(is_json("application/merge-patch+json"));
        assert!(!is_json("text/plain"));
    }

    #[test]
    fn a_list_where_an_object_belongs_is_of_the_wrong_shape_and_not_malformed() {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        struct Line {
            sku: String,
            quantity: i64,
        }
        let status = |body: &[u8]| read::<Vec<Line>>(body).map_err(|error| error.into_response().status());
        assert_eq!(
            status(br#"[["tea", 2, null]]"#).err(),
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        );
        assert_eq!(status(br#"[["tea", 2, null]"#).err(), Some(StatusCode::BAD_REQUEST));
        assert!(status(br#"[{"sku": "tea", "quantity": 2}]"#).is_ok());
    }
}
