//! Sets the process up once, and flushes what is pending when it ends.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::resource::{EnvResourceDetector, Resource, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter};
use uuid::Uuid;

use crate::{LogFormat, logs, metrics, semconv};

/// Keeps telemetry running; [`Telemetry::shut_down`] sends what is still queued.
#[derive(Debug)]
pub struct Telemetry {
    traces: SdkTracerProvider,
}

/// Starts logs, traces and metrics of this process under the name of its service.
///
/// Reads the standard variables: `RUST_LOG`, `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`,
/// `OTEL_TRACES_SAMPLER_ARG`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`. To be called inside a Tokio runtime.
pub fn start(service: &'static str, format: LogFormat) -> Result<Telemetry> {
    let resource = resource(service);
    let traces = tracer_provider(resource.clone())?;
    global::set_tracer_provider(traces.clone());

    let reader = opentelemetry_prometheus::exporter()
        .with_registry(metrics::registry().clone())
        .scope_info_enabled(false)
        .build()?;
    global::set_meter_provider(
        SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource)
            .build(),
    );

    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new("info,async_nats=warn"))?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer("tidings"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(logs::layer(format, filter))
        .with(spans)
        .try_init()
        .context("a tracing subscriber is already set")?;
    Ok(Telemetry { traces })
}

/// Who this process is; `OTEL_RESOURCE_ATTRIBUTES` knows better, of an instance's name in Kubernetes for example.
fn resource(service: &'static str) -> Resource {
    let own = [
        KeyValue::new(semconv::SERVICE_NAME, service),
        KeyValue::new(semconv::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        KeyValue::new(semconv::SERVICE_INSTANCE_ID, Uuid::now_v7().to_string()),
        KeyValue::new(semconv::DEPLOYMENT_ENVIRONMENT_NAME, "development"),
    ];
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

/// Without an endpoint nothing is sampled, but ids are still made and passed on.
fn tracer_provider(resource: Resource) -> Result<SdkTracerProvider> {
    if env::var("OTEL_EXPORTER_OTLP_ENDPOINT").is_ok_and(|endpoint| !endpoint.is_empty()) {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batching())
            .build();
        return Ok(SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build());
    }
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .with_resource(resource)
        .build())
}

/// A larger queue and a shorter delay than the SDK's own, unless the environment says otherwise.
fn batching() -> opentelemetry_sdk::trace::BatchConfig {
    let mut batch = BatchConfigBuilder::default();
    if env::var("OTEL_BSP_MAX_QUEUE_SIZE").is_err() {
        batch = batch.with_max_queue_size(16_384);
    }
    if env::var("OTEL_BSP_SCHEDULE_DELAY").is_err() {
        batch = batch.with_scheduled_delay(Duration::from_millis(500));
    }
    batch.build()
}

impl Telemetry {
    /// Flushes the last spans; waits 5 s at most when the collector is away.
    pub async fn shut_down(self) {
        // The SDK blocks its caller until the exporter, which needs this runtime, is done.
        let flushed = tokio::task::spawn_blocking(move || self.traces.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            eprintln!("the last spans could not be exported: {error}");
        }
    }
}
