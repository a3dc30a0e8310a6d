//! What may change within a version, and what is said of a change that may not.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{and, published, with};
use events::contract::changes;
use serde_json::{Value, json};

const HEARD_BY: [&str; 3] = ["inventory", "email", "analytics"];

const REQUIRED: &str = "/required";

fn refused(new: &Value) -> Vec<String> {
    let changes = changes(&published(), new);
    let refused = changes.iter().filter(|change| !change.is_allowed());
    refused
        .map(|change| change.sentence("OrderPlaced.v1", &HEARD_BY))
        .collect()
}

/// A field is gone, or has another name.
fn fields_that_go() -> Vec<(Value, &'static str)> {
    vec![
        (
            and(
                with("/properties/customer", Value::Null),
                REQUIRED,
                json!(["order_id", "lines", "total", "reason"]),
            ),
            "removing `customer` from OrderPlaced.v1 breaks inventory, email, analytics",
        ),
        (
            with("/properties/tracking", Value::Null),
            "removing `tracking` from OrderPlaced.v1 breaks inventory, email, analytics",
        ),
        (
            and(
                and(
                    with(
                        "/properties/lines/items/properties/pieces",
                        json!({ "type": "integer", "format": "int32" }),
                    ),
                    "/properties/lines/items/required",
                    json!(["sku", "pieces"]),
                ),
                "/properties/lines/items/properties",
                json!({ "sku": { "type": "string" }, "pieces": { "type": "integer", "format": "int32" } }),
            ),
            "renaming `lines[].quantity` to `lines[].pieces` in OrderPlaced.v1 breaks inventory, email, analytics",
        ),
    ]
}

/// A field is narrower or wider, or required where it was not.
fn fields_that_change() -> Vec<(Value, &'static str)> {
    vec![
        (
            with(
                "/properties/lines/items/properties/quantity",
                json!({ "type": "integer", "format": "int32", "maximum": 10 }),
            ),
            "narrowing `lines[].quantity` to maximum 10 in OrderPlaced.v1 breaks inventory, email, analytics, \
             which still meet events from before it",
        ),
        (
            with(
                "/properties/lines/items/properties/quantity",
                json!({ "type": "integer", "format": "int64" }),
            ),
            "freeing `lines[].quantity` from minimum -2147483648 in OrderPlaced.v1 breaks inventory, email, analytics, \
             as long as they are built without it",
        ),
        (
            with("/required/-", json!("tracking")),
            "making `tracking` required in OrderPlaced.v1 breaks inventory, email, analytics, \
             which still meet events from before it",
        ),
        (
            with("/required/3", Value::Null),
            "making `total` optional in OrderPlaced.v1 breaks inventory, email, analytics, \
             as long as they are built without it",
        ),
        (
            and(
                with("/properties/phone", json!({ "type": "string" })),
                REQUIRED,
                json!(["order_id", "customer", "lines", "total", "reason", "phone"]),
            ),
            "adding the required field `phone` to OrderPlaced.v1 breaks inventory, email, analytics, \
             which still meet events from before it",
        ),
    ]
}

/// Other types, formats and values.
fn values_that_change() -> Vec<(Value, &'static str)> {
    vec![
        (
            with("/properties/reason/oneOf/1", Value::Null),
            "removing the value `TOO_LATE` from `reason` of OrderPlaced.v1 breaks inventory, email, analytics, \
             which still meet events from before it",
        ),
        (
            with(
                "/properties/reason/oneOf/-",
                json!({ "type": "string", "const": "FRAUD" }),
            ),
            "adding the value `FRAUD` to `reason` of OrderPlaced.v1 breaks inventory, email, analytics, \
             as long as they are built without it",
        ),
        (
            with("/properties/total", json!({ "type": "string" })),
            "changing `total` from integer to string in OrderPlaced.v1 breaks inventory, email, analytics, \
             before and after they are built with it",
        ),
        (
            with("/properties/order_id", json!({ "type": "string" })),
            "freeing `order_id` from format uuid in OrderPlaced.v1 breaks inventory, email, analytics, \
             as long as they are built without it",
        ),
        (
            with("/properties/tracking", json!({ "type": "string" })),
            "changing `tracking` from null or string to string in OrderPlaced.v1 breaks inventory, email, analytics, \
             which still meet events from before it",
        ),
        (
            with("/properties/total", json!({ "not": { "type": "string" } })),
            "changing `total`, which uses `not`, in OrderPlaced.v1 breaks inventory, email, analytics, \
             before and after they are built with it",
        ),
    ]
}

/// Row 22: whatever would break a consumer, whichever of the two was built first, is refused in a sentence that names it.
#[test]
fn a_change_that_breaks_somebody_is_refused_in_a_sentence_that_says_whom() {
    for (new, sentence) in [fields_that_go(), fields_that_change(), values_that_change()].concat() {
        assert!(
            refused(&new).iter().any(|said| said == sentence),
            "{sentence}\n{:#?}",
            refused(&new)
        );
    }
}

#[test]
fn an_optional_field_and_better_words_are_allowed() {
    let note = json!({ "type": ["string", "null"], "description": "In the customer's words." });
    for place in [
        "/properties",
        "/properties/customer/properties",
        "/properties/lines/items/properties",
    ] {
        let new = with(&format!("{place}/note"), note.clone());
        assert_eq!(refused(&new), [""; 0]);
        assert_eq!(changes(&published(), &new).len(), 1, "it is told all the same");
    }
    let reworded = with("/properties/total/description", json!("In minor units."));
    assert_eq!(changes(&published(), &reworded), []);
    assert_eq!(changes(&published(), &published()), []);
}

#[test]
fn a_closed_object_takes_no_new_field() {
    let closed = with("/properties/customer/additionalProperties", json!(false));
    let mut new = closed.clone();
    new["properties"]["customer"]["properties"]["phone"] = json!({ "type": "string" });
    let found = changes(&closed, &new);
    assert!(
        found
            .iter()
            .any(|change| change.field == "customer.phone" && change.breaks_old_consumers),
        "{found:?}"
    );
}
