//! `docs/asyncapi.yaml`: every event, stream and service in AsyncAPI 3.

use std::collections::BTreeSet;

use chrono::DateTime;
use events::contract::{Published, catalogue};
use messaging::Envelope;
use serde_json::{Map, Value, json};
use telemetry::TraceContext;
use uuid::Uuid;

use super::wiring::Wiring;

pub(crate) fn document(wiring: &Wiring) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidings: the events of the shop",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in binary mode over NATS JetStream: the envelope is in the headers, the \
                body is the content. One stream for each owner; a breaking change is a new version beside the old one \
                (docs/contract.md).",
            "license": { "name": "MIT OR Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "broker": {
            "host": "localhost:4222",
            "protocol": "nats",
            "description": "NATS with JetStream, 2.11 or later; `NATS_URL` says where.",
        } },
        "channels": channels(),
        "operations": operations(wiring),
        "components": {
            "messages": named(|event| message(wiring, event)),
            "schemas": schemas(),
        },
    })
}

/// Something about each event version, by its label.
fn named(about: impl Fn(&Published) -> Value) -> Map<String, Value> {
    catalogue()
        .map(|event| (event.event_type.label(), about(event)))
        .collect()
}

/// One for each event; its versions share it.
fn channels() -> Map<String, Value> {
    let mut channels: Map<String, Value> = Map::new();
    for event in catalogue().map(|event| event.event_type) {
        let channel = channels.entry(event.name).or_insert_with(|| {
            json!({
                "address": event.subject(),
                "description": format!("Kept in the stream {} for seven days.", event.owner.stream()),
                "messages": {},
                "x-stream": event.owner.stream(),
            })
        });
        channel["messages"][event.label()] = reference("components/messages", &event.label());
    }
    channels
}

fn operations(wiring: &Wiring) -> Map<String, Value> {
    let mut operations = Map::new();
    for event in catalogue().map(|event| event.event_type) {
        let teller = event.owner.name();
        let mut add = |service: &str, action: &str, verb: &str| {
            let operation = operations
                .entry(format!("{service}.{verb}.{}", event.name))
                .or_insert_with(|| {
                    json!({
                        "action": action,
                        "channel": reference("channels", event.name),
                        "summary": format!("{service} {verb} {}", event.name),
                        "tags": [{ "name": service }],
                        "messages": [],
                    })
                });
            let message = reference(&format!("channels/{}/messages", event.name), &event.label());
            operation["messages"].as_array_mut().unwrap().push(message);
        };
        add(teller, "send", "tells");
        for listener in wiring.heard_by(event) {
            add(listener, "receive", "hears");
        }
    }
    operations
}

fn message(wiring: &Wiring, event: &Published) -> Value {
    let label = event.event_type.label();
    let told = &wiring.golden[&label][0];
    let summary = (event.schema)()["description"].as_str().unwrap_or(&label).to_owned();
    json!({
        "name": event.event_type.to_string(),
        "title": label,
        "summary": summary,
        "contentType": "application/json",
        "headers": reference("components/schemas", "Envelope"),
        "payload": reference("components/schemas", &label),
        "examples": [{ "name": "golden", "headers": example_headers(told), "payload": told["data"] }],
    })
}

fn schemas() -> Map<String, Value> {
    let mut schemas = named(|event| {
        let mut schema = (event.schema)();
        // The dialect is that of the document, and references within it go by its own names.
        schema
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name != "$schema" && name != "$id");
        schema
    });
    schemas.insert("Envelope".to_owned(), envelope());
    schemas
}

fn envelope() -> Value {
    json!({
        "type": "object",
        "description": "CloudEvents 1.0 attributes, and the trace context of the producing span.",
        "properties": {
            "Nats-Msg-Id": { "type": "string", "description": "The event's id; the broker drops a second one." },
            "ce-id": { "type": "string", "format": "uuid", "description": "The same on every redelivery." },
            "ce-specversion": { "type": "string", "const": "1.0" },
            "ce-type": { "type": "string", "pattern": "^shop\\.[a-z]+\\.[A-Za-z]+\\.v[0-9]+$" },
            "ce-source": { "type": "string", "description": "The owner, `/shop/order`." },
            "ce-time": { "type": "string", "format": "date-time", "description": "By the owner's database clock." },
            "ce-subject": { "type": "string", "description": "Order id, or sku." },
            "ce-dataschema": { "type": "string", "description": "`/shop/schemas/OrderPlaced.v1.json`." },
            "ce-sequence": { "type": "string", "pattern": "^[0-9]+$",
                "description": "Counts the owner's events of this subject from 1." },
            "ce-correlationid": { "type": "string", "description": "Order id." },
            "ce-causationid": { "type": "string", "format": "uuid", "description": "The event that it follows from." },
            "traceparent": { "type": "string", "description": "W3C Trace Context." },
            "tracestate": { "type": "string", "description": "W3C Trace Context." },
        },
        "required": ["Nats-Msg-Id", "ce-id", "ce-specversion", "ce-type", "ce-source", "ce-time", "ce-subject",
            "ce-dataschema", "ce-sequence", "ce-correlationid"],
    })
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

/// The envelope that a golden event came in.
fn enveloped(told: &Value) -> Envelope {
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    Envelope {
        event_id: text("id").parse().unwrap(),
        event_type: text("type"),
        subject: text("subject"),
        sequence: told["sequence"].as_i64().unwrap(),
        correlation_id: text("subject"),
        causation_id: told["causationid"].as_str().map(|cause| cause.parse().unwrap()),
        occurred_at: text("time").parse().unwrap(),
        trace: TraceContext::NONE,
    }
}

fn example_headers(told: &Value) -> Value {
    let headers = enveloped(told).headers();
    let texts = headers
        .iter()
        .map(|(name, values)| (name.to_string(), Value::from(values[0].as_str())));
    Value::Object(texts.collect())
}

pub(crate) fn documented_headers() -> BTreeSet<String> {
    envelope()["properties"].as_object().unwrap().keys().cloned().collect()
}

/// Those of an envelope with everything in it.
pub(crate) fn sent_headers() -> BTreeSet<String> {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let full = Envelope {
        event_id: Uuid::nil(),
        event_type: "shop.order.OrderPlaced.v1".into(),
        subject: "order".into(),
        sequence: 1,
        correlation_id: "order".into(),
        causation_id: Some(Uuid::nil()),
        occurred_at: DateTime::UNIX_EPOCH,
        trace: TraceContext::parse(parent, Some("vendor=1")).unwrap(),
    };
    full.headers().iter().map(|(name, _)| name.to_string()).collect()
}
