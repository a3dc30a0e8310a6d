//! What wraps every route: the server span, problem documents, limits, and no panic that escapes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, extract::DefaultBodyLimit};
use serde_json::json;
use telemetry::TraceContext;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument;

use crate::ApiError;

/// The largest body that is read.
const LARGEST_BODY: usize = 64 << 10;
/// How long a request may take before 503.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

/// Puts the common surface around a service's routes.
pub fn surface(routes: Router) -> Router {
    routes
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this path does not take this method",
            )
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            ANSWER_WITHIN,
        ))
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(traced))
}

/// Continues the caller's trace, names the span by route, and finishes the answer.
async fn traced(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str)
        .to_owned();
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    telemetry::follow(&span, &caller(request.headers()));
    let answered = async {
        let response = next.run(request).await;
        let status = response.status();
        tracing::Span::current().record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            tracing::Span::current().record("otel.status_code", "ERROR");
        }
        finish(response, &path, &telemetry::current().trace_id())
    };
    answered.instrument(span).await
}

/// Exactly one `traceparent` counts; several `tracestate` headers are one list.
fn caller(headers: &HeaderMap) -> TraceContext {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let parents: Vec<_> = headers.get_all("traceparent").iter().filter_map(text).collect();
    let states: Vec<_> = headers.get_all("tracestate").iter().filter_map(text).collect();
    match parents.as_slice() {
        [parent] => TraceContext::restore(
            Some(parent),
            Some(&states.join(",")).filter(|s| !s.is_empty()).map(String::as_str),
        ),
        _ => TraceContext::NONE,
    }
}

/// Every answer carries its trace id; every refusal, whoever made it, becomes a problem document.
fn finish(mut response: Response, path: &str, trace_id: &str) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<ApiError>();
    if status.is_client_error() || status.is_server_error() {
        let problem = problem.unwrap_or_else(|| stand_in(status));
        let body = json!({
            "type": format!("/problems/{}", problem.slug),
            "title": title(problem.slug),
            "status": status.as_u16(),
            "detail": problem.detail,
            "instance": path,
            "trace_id": trace_id,
            "errors": problem.errors,
        });
        *response.body_mut() = Body::from(body.to_string());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response.headers_mut().remove(header::CONTENT_LENGTH);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .entry(header::RETRY_AFTER)
                .or_insert(HeaderValue::from_static("1"));
        }
    }
    if let Ok(value) = HeaderValue::from_str(trace_id) {
        response.headers_mut().insert(TRACE_ID, value);
    }
    response.into_response()
}

/// A refusal by the framework or a layer, which knows no problem documents.
fn stand_in(status: StatusCode) -> ApiError {
    let detail = status.canonical_reason().unwrap_or("refused");
    match status {
        StatusCode::SERVICE_UNAVAILABLE => ApiError::unavailable("the answer took too long, try again"),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(status, "payload-too-large", "the body is larger than 64 KiB"),
        status if status.is_server_error() => ApiError::new(status, "internal-error", detail),
        status => ApiError::new(status, "malformed-request", detail),
    }
}

/// `out-of-stock` reads "Out of stock".
fn title(slug: &str) -> String {
    let words = slug.replace('-', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
