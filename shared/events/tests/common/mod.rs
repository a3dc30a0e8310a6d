//! An event and changes of it.

use serde_json::{Value, json};

/// An event with everything that our types generate.
pub(crate) fn published() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OrderPlaced.v1",
        "type": "object",
        "properties": {
            "order_id": { "type": "string", "format": "uuid" },
            "customer": {
                "type": "object",
                "properties": { "id": { "type": "string", "format": "uuid" }, "email": { "type": "string" } },
                "required": ["id", "email"],
            },
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "sku": { "type": "string" }, "quantity": { "type": "integer", "format": "int32" } },
                    "required": ["sku", "quantity"],
                },
            },
            "total": { "type": "integer", "format": "int64" },
            "reason": { "oneOf": [
                { "type": "string", "const": "OUT_OF_STOCK", "description": "Too little." },
                { "type": "string", "const": "TOO_LATE" },
            ] },
            "tracking": { "type": ["string", "null"] },
        },
        "required": ["order_id", "customer", "lines", "total", "reason"],
    })
}

/// The event after a change: what stands at the pointer is replaced, or removed.
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut schema = published();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = schema.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(name)),
        (Value::Object(map), value) => drop(map.insert(name.to_owned(), value)),
        (Value::Array(list), Value::Null) => drop(list.remove(name.parse().unwrap())),
        (Value::Array(list), value) => list.push(value),
        _ => panic!("{pointer}"),
    }
    schema
}

/// The same once more.
pub(crate) fn and(mut schema: Value, pointer: &str, value: Value) -> Value {
    *schema.pointer_mut(pointer).unwrap() = value;
    schema
}
