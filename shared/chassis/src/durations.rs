//! How long requests take: those that are answered here, and those that are made of others.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use telemetry::semconv;

struct Requests {
    answered: Histogram<f64>,
    made: Histogram<f64>,
}

/// The buckets that the semantic conventions advise.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

fn requests() -> &'static Requests {
    static INSTRUMENTS: OnceLock<Requests> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| Requests {
        answered: telemetry::metrics::seconds(
            "http.server.request.duration",
            "How long requests took, to the head of the answer",
            &SECONDS,
        ),
        made: telemetry::metrics::seconds(
            "http.client.request.duration",
            "How long requests to others took, to the head of the answer",
            &SECONDS,
        ),
    })
}

/// Methods are whatever clients send; those that no route takes are one.
pub(crate) fn known(method: &Method) -> &'static str {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}

/// A request was answered; one that no route takes has none.
pub(crate) fn answered(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let mut labels = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, known(method)),
        KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())),
    ];
    if !route.is_empty() {
        labels.push(KeyValue::new(semconv::HTTP_ROUTE, route.to_owned()));
    }
    requests().answered.record(took.as_secs_f64(), &labels);
}

/// A request to a peer was answered, or was not.
pub(crate) fn made(method: &Method, peer: &str, status: Option<StatusCode>, took: Duration) {
    let mut labels = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, known(method)),
        KeyValue::new(semconv::SERVER_ADDRESS, peer.to_owned()),
    ];
    labels.push(match status {
        Some(status) => KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())),
        None => KeyValue::new(semconv::ERROR_TYPE, "unanswered"),
    });
    requests().made.record(took.as_secs_f64(), &labels);
}
