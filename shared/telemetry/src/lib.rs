//! Logs, traces and metrics, and the trace context that travels with every request and event.
//!
//! Spans leave by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; without it nothing is recorded,
//! but every order still has its trace id, so logs, tables and headers agree.

mod context;
mod export;
mod logs;
pub mod metrics;
pub mod semconv;
mod span;

pub use context::{TraceContext, TraceContextError};
pub use export::{Telemetry, start};
pub use logs::LogFormat;
pub use span::{Kind, Span, current, follow, link};
