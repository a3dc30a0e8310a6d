//! A span as it is kept: what was received, beside whom it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use otlp::{span::SpanKind, status::StatusCode};
use serde_json::json;

use crate::{Event, Kind, Span, Status};

/// The process that sent a span.
#[derive(Debug, PartialEq)]
pub(crate) struct Origin {
    pub(crate) service: String,
    /// Without `service.name`.
    pub(crate) attributes: Vec<KeyValue>,
}

/// A received span with a valid trace id and span id.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) origin: Arc<Origin>,
    pub(crate) scope: Arc<InstrumentationScope>,
    pub(crate) span: otlp::Span,
}

impl Record {
    pub(crate) fn parent_id(&self) -> Option<u64> {
        span_id(&self.span.parent_span_id)
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.span.kind() {
            SpanKind::Unspecified | SpanKind::Internal => Kind::Internal,
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Producer => Kind::Producer,
            SpanKind::Consumer => Kind::Consumer,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let Some(status) = &self.span.status else {
            return Status::Unset;
        };
        match status.code() {
            StatusCode::Unset => Status::Unset,
            StatusCode::Ok => Status::Ok,
            StatusCode::Error => Status::Error(status.message.clone()),
        }
    }

    /// Nanoseconds; a clock set back in between counts as nothing.
    pub(crate) fn duration(&self) -> u64 {
        self.span
            .end_time_unix_nano
            .saturating_sub(self.span.start_time_unix_nano)
    }

    /// Trace id and span id of every valid link.
    pub(crate) fn links(&self) -> impl Iterator<Item = (u128, u64)> {
        self.span
            .links
            .iter()
            .filter_map(|link| Some((trace_id(&link.trace_id)?, span_id(&link.span_id)?)))
    }
}

impl From<&Record> for Span {
    fn from(record: &Record) -> Self {
        let span = &record.span;
        Self {
            trace_id: trace_hex(record.trace_id),
            span_id: span_hex(record.span_id),
            parent_id: record.parent_id().map(span_hex),
            service: record.origin.service.clone(),
            name: span.name.clone(),
            kind: record.kind(),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: texts(&span.attributes),
            links: record
                .links()
                .map(|(trace, span)| (trace_hex(trace), span_hex(span)))
                .collect(),
            status: record.status(),
            events: span.events.iter().map(Event::from).collect(),
            scope: record.scope.name.clone(),
            resource: texts(&record.origin.attributes),
        }
    }
}

impl From<&otlp::span::Event> for Event {
    fn from(event: &otlp::span::Event) -> Self {
        Self {
            name: event.name.clone(),
            at: event.time_unix_nano,
            attributes: texts(&event.attributes),
        }
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

/// A string as it is, anything else as JSON.
pub(crate) fn text(value: &Option<AnyValue>) -> String {
    text_of(json(value))
}

pub(crate) fn text_of(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The value as JSON; bytes as hexadecimal digits.
pub(crate) fn json(value: &Option<AnyValue>) -> serde_json::Value {
    let Some(value) = value.as_ref().and_then(|value| value.value.as_ref()) else {
        return serde_json::Value::Null;
    };
    match value {
        Value::StringValue(text) => json!(text),
        Value::BoolValue(truth) => json!(truth),
        Value::IntValue(number) => json!(number),
        Value::DoubleValue(number) => json!(number),
        Value::ArrayValue(list) => list.values.iter().map(|value| json(&Some(value.clone()))).collect(),
        Value::KvlistValue(list) => list
            .values
            .iter()
            .map(|pair| (pair.key.clone(), json(&pair.value)))
            .collect(),
        Value::BytesValue(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Value::StringValueStrindex(_) => serde_json::Value::Null,
    }
}

/// Sixteen bytes that are not all zero.
pub(crate) fn trace_id(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_be_bytes).filter(|id| *id != 0)
}

/// Eight bytes that are not all zero.
pub(crate) fn span_id(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes).filter(|id| *id != 0)
}

/// Up to 32 hexadecimal digits; leading zeros may be left out, as Jaeger allows.
pub(crate) fn parse_trace_id(digits: &str) -> Option<u128> {
    u128::from_str_radix(digits, 16).ok()
}

pub(crate) fn trace_hex(id: u128) -> String {
    format!("{id:032x}")
}

pub(crate) fn span_hex(id: u64) -> String {
    format!("{id:016x}")
}
