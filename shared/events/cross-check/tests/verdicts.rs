//! The checker of `events::contract` beside another implementation.
//!
//! A workspace of its own: what the other one depends on would change how numbers are read everywhere else.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{and, published, with};
use events::contract::{Change, changes};
use jsoncompat::{Role, SchemaDocument, check_compat};
use serde_json::{Value, json};

const REQUIRED: &str = "/required";

/// Ours names fields and directions; the other implementation proves inclusion. They must not contradict each other.
/// Formats are remarks to the other one and ranges to ours, which reads `int32` as Rust does, so no case drops one alone.
#[test]
fn another_implementation_comes_to_the_same_verdict() {
    let optional = json!({ "type": ["string", "null"] });
    let cases = [
        published(),
        with("/properties/note", optional.clone()),
        with("/properties/customer/properties/note", optional),
        with("/properties/customer", json!({ "type": "object" })),
        with(
            "/properties/lines/items/properties/quantity",
            json!({ "type": "integer", "format": "int32", "minimum": 1 }),
        ),
        with("/properties/total", json!({ "type": "string" })),
        with("/properties/total", json!({ "type": "number" })),
        with("/properties/tracking", json!({ "type": "string" })),
        with("/properties/reason/oneOf/1", Value::Null),
        with(
            "/properties/reason/oneOf/-",
            json!({ "type": "string", "const": "FRAUD" }),
        ),
        with("/required/-", json!("tracking")),
        with("/required/3", Value::Null),
        and(
            with("/properties/phone", json!({ "type": "string" })),
            REQUIRED,
            json!(["order_id", "customer", "lines", "total", "reason", "phone"]),
        ),
        and(
            with("/properties/total", Value::Null),
            REQUIRED,
            json!(["order_id", "customer", "lines", "reason"]),
        ),
    ];
    for new in cases {
        let found = changes(&published(), &new);
        let holds = |breaks: fn(&Change) -> bool| !found.iter().any(breaks);
        let (old, new) = (document(&published()), document(&new));
        let backward = check_compat(&old, &new, Role::Deserializer).unwrap();
        let forward = check_compat(&old, &new, Role::Serializer).unwrap();
        assert_eq!(
            holds(|change| change.breaks_new_consumers),
            backward,
            "reading what was told before: {found:?}"
        );
        assert_eq!(
            holds(|change| change.breaks_old_consumers),
            forward,
            "being read by those from before: {found:?}"
        );
    }
}

fn document(schema: &Value) -> SchemaDocument {
    SchemaDocument::from_json(schema).unwrap()
}
