//! How long requests take: those that are answered here, and those that are made of others.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

/// A method that HTTP does not know.
pub(crate) const OTHER: &str = "_OTHER";

/// Methods are whatever clients send; those that HTTP does not know are one.
pub(crate) fn known(method: &Method) -> &'static str {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

/// A request was answered; one that no route takes has none.
pub(crate) fn answered(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    let mut labels = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, method),
        KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())),
    ];
    if !route.is_empty() {
        labels.push(KeyValue::new(semconv::HTTP_ROUTE, route.to_owned()));
    }
    requests().answered.record(took.as_secs_f64(), &labels);
}

/// A request to a peer, which is measured when it ends, however that comes: whoever asks may lose patience.
pub(crate) struct Asked<'a> {
    method: Method,
    peer: &'a str,
    server: (String, i64),
    begun: Instant,
    answer: Option<StatusCode>,
}

impl<'a> Asked<'a> {
    /// It begins now.
    pub(crate) fn now(method: Method, peer: &'a str, server: (String, i64)) -> Self {
        Self {
            method,
            peer,
            server,
            begun: Instant::now(),
            answer: None,
        }
    }

    /// It was answered.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.answer = Some(status);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let outcome = match self.answer {
            Some(status) => KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())),
            None => KeyValue::new(semconv::ERROR_TYPE, "unanswered"),
        };
        let labels = [
            KeyValue::new(semconv::HTTP_REQUEST_METHOD, known(&self.method)),
            KeyValue::new(semconv::SERVER_ADDRESS, self.server.0.clone()),
            KeyValue::new(semconv::SERVER_PORT, self.server.1),
            KeyValue::new("peer", self.peer.to_owned()),
            outcome,
        ];
        requests().made.record(self.begun.elapsed().as_secs_f64(), &labels);
    }
}
