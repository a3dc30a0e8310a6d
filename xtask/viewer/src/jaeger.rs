//! Traces as the JSON of Jaeger's query API.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use serde_json::{Map, Value, json};

use crate::Status;
use crate::record::{self, Origin, Record, span_hex, trace_hex};
use crate::store::Trace;

/// A trace, its processes numbered `p1`, `p2` … in order of appearance.
pub(crate) fn trace(records: &Trace) -> Value {
    let mut origins: Vec<&Arc<Origin>> = Vec::new();
    let mut spans = Vec::new();
    for record in records {
        let known = origins.iter().position(|origin| **origin == record.origin);
        let index = known.unwrap_or_else(|| {
            origins.push(&record.origin);
            origins.len() - 1
        });
        spans.push(span(record, &format!("p{}", index + 1)));
    }
    let processes: Map<String, Value> = (1..)
        .map(|number| format!("p{number}"))
        .zip(origins.into_iter().map(|origin| process(origin)))
        .collect();
    let id = records.first().map(|record| trace_hex(record.trace_id));
    json!({ "traceID": id, "spans": spans, "processes": processes, "warnings": null })
}

/// What can be searched by tag: the span's own and derived tags, its events, its process.
pub(crate) fn searchable(record: &Record) -> impl Iterator<Item = (String, String)> {
    let span = &record.span;
    let events = span.events.iter().flat_map(|event| &event.attributes);
    let plain = span.attributes.iter().chain(events).chain(&record.origin.attributes);
    let derived = derived(record)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), record::text_of(value)));
    plain
        .map(|pair| (pair.key.clone(), record::text(&pair.value)))
        .chain(derived)
}

fn span(record: &Record, process: &str) -> Value {
    let span = &record.span;
    let derived = derived(record).into_iter().map(|(key, value)| {
        let kind = if value.is_boolean() { "bool" } else { "string" };
        json!({ "key": key, "type": kind, "value": value })
    });
    let tags: Vec<Value> = span.attributes.iter().map(tag).chain(derived).collect();
    json!({
        "traceID": trace_hex(record.trace_id),
        "spanID": span_hex(record.span_id),
        "operationName": span.name,
        "references": references(record),
        "flags": 1,
        "startTime": span.start_time_unix_nano / 1_000,
        "duration": record.duration() / 1_000,
        "tags": tags,
        "logs": span.events.iter().map(log).collect::<Vec<_>>(),
        "processID": process,
        "warnings": null,
    })
}

/// The parent first, then the links.
fn references(record: &Record) -> Vec<Value> {
    let parent = record.parent_id().map(|span| ("CHILD_OF", record.trace_id, span));
    let links = record.links().map(|(trace, span)| ("FOLLOWS_FROM", trace, span));
    let reference =
        |(kind, trace, span)| json!({ "refType": kind, "traceID": trace_hex(trace), "spanID": span_hex(span) });
    parent.into_iter().chain(links).map(reference).collect()
}

/// The tags that Jaeger makes of what OTLP keeps in fields.
fn derived(record: &Record) -> Vec<(&'static str, Value)> {
    let mut tags = vec![("span.kind", json!(record.kind().as_str()))];
    match record.status() {
        Status::Unset => {}
        Status::Ok => tags.push(("otel.status_code", json!("OK"))),
        Status::Error(reason) => {
            tags.push(("otel.status_code", json!("ERROR")));
            tags.push(("error", json!(true)));
            if !reason.is_empty() {
                tags.push(("otel.status_description", json!(reason)));
            }
        }
    }
    let scope = &record.scope;
    for (key, value) in [
        ("otel.scope.name", &scope.name),
        ("otel.scope.version", &scope.version),
        ("w3c.tracestate", &record.span.trace_state),
    ] {
        if !value.is_empty() {
            tags.push((key, json!(value)));
        }
    }
    tags
}

fn process(origin: &Origin) -> Value {
    json!({ "serviceName": origin.service, "tags": origin.attributes.iter().map(tag).collect::<Vec<_>>() })
}

fn log(event: &Event) -> Value {
    let name = json!({ "key": "event", "type": "string", "value": event.name });
    let fields: Vec<Value> = std::iter::once(name).chain(event.attributes.iter().map(tag)).collect();
    json!({ "timestamp": event.time_unix_nano / 1_000, "fields": fields })
}

/// Numbers and booleans keep their type; Jaeger spells everything else as a string.
fn tag(pair: &KeyValue) -> Value {
    let (kind, value) = match &pair.value {
        Some(AnyValue {
            value: Some(Any::BoolValue(truth)),
        }) => ("bool", json!(truth)),
        Some(AnyValue {
            value: Some(Any::IntValue(number)),
        }) => ("int64", json!(number)),
        Some(AnyValue {
            value: Some(Any::DoubleValue(number)),
        }) => ("float64", json!(number)),
        other => ("string", json!(record::text(other))),
    };
    json!({ "key": pair.key, "type": kind, "value": value })
}
