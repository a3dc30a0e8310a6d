//! HTTP requests to others: each is a client span, and carries its trace context.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Request, Response};
use tracing::Instrument;

use crate::durations;

/// A client whose connections are kept; each request still needs its own budget.
pub fn client(connect_within: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(connect_within)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// Sends a request as a child of the current span; `peer` and `route` name it, never the full URL.
pub async fn send(client: &Client, mut request: Request, peer: &str, route: &str) -> reqwest::Result<Response> {
    let method = request.method().clone();
    let asked = method.clone();
    let span = tracing::info_span!(
        "call",
        otel.name = format!("{method} {peer} {route}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        http.request.method = %method,
        http.route = route,
        server.address = peer,
        http.response.status_code = tracing::field::Empty,
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
        let begun = Instant::now();
        let outcome = client.execute(request).await;
        let status = outcome.as_ref().ok().map(Response::status);
        durations::made(&asked, peer, status, begun.elapsed());
        match &outcome {
            Ok(response) => {
                tracing::Span::current().record("http.response.status_code", response.status().as_u16());
            }
            Err(_) => {
                tracing::Span::current().record("otel.status_code", "ERROR");
            }
        }
        outcome
    };
    sent.instrument(span).await
}
