//! HTTP requests to others: each is a client span, and carries its trace context.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Request, Response};
use tracing::Instrument;

use crate::durations::Asked;

/// A client whose connections are kept; each request still needs its own budget.
pub fn client(connect_within: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(connect_within)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// Sends a request as a child of the current span; `peer` and `route` name it, never the full URL.
pub async fn send(client: &Client, mut request: Request, peer: &str, route: &str) -> reqwest::Result<Response> {
    let (method, url) = (request.method().clone(), request.url());
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = i64::from(url.port_or_known_default().unwrap_or_default());
    let span = tracing::info_span!(
        "call",
        otel.name = format!("{method} {route}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        http.request.method = %method,
        url.template = route,
        server.address = host,
        server.port = port,
        peer.service = peer,
        http.response.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    let sent = async {
        let trace = telemetry::current();
        let headers = request.headers_mut();
        let texts = [
            ("traceparent", trace.traceparent()),
            ("tracestate", trace.tracestate().map(str::to_owned)),
        ];
        for (name, text) in texts {
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let asked = Asked::now(method, peer, (host, port));
        let outcome = client.execute(request).await;
        match &outcome {
            Ok(response) => {
                asked.answered(response.status());
                let (span, status) = (tracing::Span::current(), response.status());
                span.record("http.response.status_code", status.as_u16());
                if status.is_client_error() || status.is_server_error() {
                    span.record("otel.status_code", "ERROR");
                    span.record("error.type", status.as_str());
                }
            }
            Err(_) => {
                tracing::Span::current().record("otel.status_code", "ERROR");
                tracing::Span::current().record("error.type", "unanswered");
            }
        }
        outcome
    };
    sent.instrument(span).await
}
