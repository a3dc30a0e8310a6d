//! What the tests of the chains look at.

use e2e_tests::{Service, World};
use serde_json::Value;
use uuid::Uuid;

/// Names that must appear in this order; others may stand between them.
pub(crate) fn assert_told(timeline: &[String], expected: &[&str]) {
    let mut told = timeline.iter();
    for name in expected {
        assert!(
            told.any(|event| event == name),
            "{name} is missing, or out of place, in {timeline:?}"
        );
    }
}

/// Every event follows from one that the timeline shows; only what somebody asked for has no cause.
pub(crate) async fn assert_caused(world: &World, id: Uuid) {
    let timeline = world
        .get(Service::Order, &format!("/v1/orders/{id}/timeline"))
        .await
        .unwrap_or_default();
    let items = timeline["items"].as_array().cloned().unwrap_or_default();
    assert!(!items.is_empty());
    for item in items
        .iter()
        .filter(|item| !ASKED_FOR.contains(&item["type"].as_str().unwrap_or_default()))
    {
        let cause = items.iter().find(|other| other["event_id"] == item["causation_id"]);
        assert!(cause.is_some(), "{item} follows from nothing");
    }
}

const ASKED_FOR: [&str; 3] = ["OrderPlaced", "OrderCancellationRequested", "OrderReturnRequested"];

pub(crate) fn ended(order: &Value) -> (&str, Option<&str>) {
    (order["state"].as_str().unwrap_or_default(), order["reason"].as_str())
}

pub(crate) async fn payment(world: &World, id: Uuid) -> Value {
    world
        .get(Service::Payment, &format!("/v1/payments/{id}"))
        .await
        .unwrap_or_default()
}

pub(crate) async fn reservation(world: &World, id: Uuid) -> Value {
    world
        .get(Service::Inventory, &format!("/v1/reservations/{id}"))
        .await
        .unwrap_or_default()
}
