//! What wraps every route: the server span, problem documents, limits, and no panic that escapes.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;
use telemetry::TraceContext;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument;

use crate::serve::Limits;
use crate::{ApiError, FieldError, durations, problems};

/// The largest body that is read.
const LARGEST_BODY: usize = 64 << 10;
/// The longest path and query.
const LONGEST_ADDRESS: usize = 8 << 10;
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

/// Puts the common surface around a service's routes.
pub fn surface(routes: Router) -> Router {
    surface_within(routes, Limits::default())
}

/// The same with other limits.
pub fn surface_within(routes: Router, limits: Limits) -> Router {
    routes
        .merge(problems::routes())
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this path does not take this method",
            )
        })
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            limits.answer_within,
        ))
        .layer(middleware::from_fn_with_state(limits.body_within, whole))
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(traced))
}

/// Lets a request in once its body is there and is no larger than allowed: no handler ever waits for a client.
async fn whole(State(within): State<Duration>, request: Request, next: Next) -> Result<Response, ApiError> {
    let uri = request.uri();
    if uri
        .path_and_query()
        .is_some_and(|text| text.as_str().len() > LONGEST_ADDRESS)
    {
        let detail = "the address of the request is longer than 8 KiB";
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "uri-too-long", detail));
    }
    for (field, text) in [("path", uri.path()), ("query", uri.query().unwrap_or_default())] {
        if text.contains("%00") {
            let refused = FieldError::new(field, "must not contain the character NUL");
            return Err(ApiError::malformed("the address contains the character NUL").with_errors(vec![refused]));
        }
    }
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(within, read(body)).await {
        Ok(body) => body?,
        Err(_) => {
            let detail = "the body did not arrive in time";
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", detail));
        }
    };
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn read(body: Body) -> Result<Body, ApiError> {
    if body.is_end_stream() {
        return Ok(Body::empty());
    }
    if body.size_hint().lower() > LARGEST_BODY as u64 {
        return Err(too_large());
    }
    let (mut whole, mut parts) = (Vec::new(), body.into_data_stream());
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| ApiError::malformed("the body could not be read"))?;
        if whole.len() + part.len() > LARGEST_BODY {
            return Err(too_large());
        }
        whole.extend_from_slice(&part);
    }
    Ok(Body::from(whole))
}

fn too_large() -> ApiError {
    let detail = "the body is larger than 64 KiB";
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail)
}

/// Continues the caller's trace, names the span by route, and finishes the answer.
async fn traced(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str)
        .to_owned();
    let path = request.uri().path().to_owned();
    let known = durations::known(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = named(known, &route),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = known,
        http.route = (!route.is_empty()).then_some(route.as_str()),
        http.response.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    telemetry::follow(&span, &caller(request.headers()));
    let begun = Instant::now();
    let answered = async {
        let response = next.run(request).await;
        let status = response.status();
        tracing::Span::current().record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            tracing::Span::current().record("otel.status_code", "ERROR");
            tracing::Span::current().record("error.type", status.as_str());
        }
        durations::answered(known, &route, status, begun.elapsed());
        finish(response, &path, &telemetry::current().trace_id())
    };
    answered.instrument(span).await
}

/// By method and route, never by what a client has made up.
fn named(method: &'static str, route: &str) -> String {
    let method = if method == durations::OTHER { "HTTP" } else { method };
    format!("{method} {route}").trim_end().to_owned()
}

/// Exactly one `traceparent` counts; several `tracestate` headers are one list.
fn caller(headers: &HeaderMap) -> TraceContext {
    // What is no text is no traceparent either, but it counts, and it spoils a list.
    let texts = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    TraceContext::of_headers(texts("traceparent"), texts("tracestate"))
}

/// Every answer carries its trace id; every refusal, whoever made it, becomes a problem document.
fn finish(mut response: Response, path: &str, trace_id: &str) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<ApiError>();
    if status.is_client_error() || status.is_server_error() {
        let problem = problem.unwrap_or_else(|| stand_in(status));
        let body = json!({
            "type": format!("/problems/{}", problem.slug),
            "title": problems::title(problem.slug),
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
            let seconds = problem.retry_after.unwrap_or(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
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
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status if status.is_server_error() => ApiError::new(status, "internal-error", detail),
        status => ApiError::new(status, "malformed-request", detail),
    }
}
