//! Metrics through the OpenTelemetry API, read by Prometheus from `/metrics`.

use std::sync::OnceLock;

use opentelemetry::global;
use opentelemetry::metrics::{Histogram, Meter};
use prometheus::{Encoder, Registry, TextEncoder};

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The registry that `/metrics` shows; one a process.
pub(crate) fn registry() -> &'static Registry {
    REGISTRY.get_or_init(Registry::new)
}

/// Where instruments are made.
pub fn meter() -> Meter {
    global::meter("tidings")
}

/// How long something takes; the boundaries are those of its buckets, in seconds.
pub fn seconds(name: &'static str, description: &'static str, boundaries: &[f64]) -> Histogram<f64> {
    let meter = meter();
    let histogram = meter.f64_histogram(name).with_description(description).with_unit("s");
    histogram.with_boundaries(boundaries.to_vec()).build()
}

/// Everything measured so far, in Prometheus' text format.
pub fn render() -> String {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry().gather(), &mut text) {
        tracing::warn!(%error, "some metrics could not be rendered");
    }
    String::from_utf8_lossy(&text).into_owned()
}
